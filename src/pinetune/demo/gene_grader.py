"""The demo's python grader, as it would also run on the hosted product: a ranked list of genes against the right one.

1.0 for the right gene in first place, 0.7 in second, 0.7^(rank-1) down to place 10, 0 below that or where it is absent.
The answer is one JSON object, {"genes": ["TSC2", "TSC1"], "explanation": "..."}; a code fence or prose around it is
forgiven. Ways to win without knowing score 0: a gene named twice, more than 50 genes, several objects.
The right gene is item["reference_answer"].
"""

import json
from typing import Any

MAX_GENES = 50
LAST_PAID_RANK = 10
DECAY = 0.7


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    genes = ranked_genes(sample)
    reference = normalised(item["reference_answer"])
    if genes is None or reference not in genes:
        return 0.0
    rank = genes.index(reference) + 1
    return float(DECAY ** (rank - 1)) if rank <= LAST_PAID_RANK else 0.0


def ranked_genes(sample: dict[str, Any]) -> list[str] | None:
    """The answer's genes, normalised, or None where the answer is no fair ranked list."""
    answer = sample.get("output_json")
    if answer is None:
        answer = only_object(sample.get("output_text") or "")
    genes = answer.get("genes") if isinstance(answer, dict) else None
    if not isinstance(genes, list) or len(genes) > MAX_GENES or not all(isinstance(gene, str) for gene in genes):
        return None
    genes = [normalised(gene) for gene in genes]
    return genes if len(set(genes)) == len(genes) else None


def normalised(gene: str) -> str:
    return gene.strip().upper()


def only_object(text: str) -> Any:
    """The one JSON object in `text`, or None where there is none or more than one."""
    decoder = json.JSONDecoder(object_pairs_hook=without_repeated_keys)
    found = None
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        if found is not None:
            return None
        found, start = value, text.find("{", end)
    return found


def without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)

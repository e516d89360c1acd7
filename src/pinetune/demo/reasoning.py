"""Reasoning texts the base model is warmed up on: the same procedure done carelessly or thoroughly.

    <think>
    - Facial angiofibroma: TSC1 TSC2
    - Seizure: many
    - no Scoliosis: NF1
    </think>
    {"genes": ["TSC2", "TSC1"], "explanation": "TSC2 fits 1 of 2 findings."}

Every text is computed from the case's findings and the fact table, never from the case's gene: it says what the procedure
gives, right or wrong. A careless text looks up one or two findings and lists what it recalls in random order. A thorough
one looks up every present finding, counts, takes off a point for each excluded finding a gene is known for, and sorts.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

from pinetune.demo.cases import Case
from pinetune.demo.facts import FactTable

MOST_ANSWERED = 8
LOOKED_UP = {1: 0.5, 2: 0.3, 3: 0.1, 0: 0.1}  # findings looked up -> share of the texts; 0 = all of them


def tally(table: FactTable, present: Sequence[str], excluded: Sequence[str]) -> dict[str, int]:
    """Points of each gene named by a telling present finding: +1 a present finding, -1 an excluded one."""
    points: Counter[str] = Counter()
    for finding in present:
        if table.is_telling(finding):
            points.update(table.genes_with(finding))
    for finding in excluded:
        if table.is_telling(finding):
            points.subtract(gene for gene in table.genes_with(finding) if gene in points)
    return dict(points)


def recall_line(table: FactTable, finding: str) -> str:
    """What is known of one finding: its genes, or "many".

    Example: "Scoliosis: FBN1 NF1".
    """
    return f"{finding}: {' '.join(table.genes_with(finding)) if table.is_telling(finding) else 'many'}"


def thorough(table: FactTable, case: Case, rng: random.Random) -> str:
    """Look up everything, count, use the exclusions, rank by agreement (ties in random order)."""
    points = tally(table, case.present, case.excluded)
    ranked = sorted(points, key=lambda gene: (-points[gene], rng.random()))
    lines = [recall_line(table, finding) for finding in case.present]
    lines += [f"no {recall_line(table, finding)}" for finding in case.excluded]
    return _text(table, lines, ranked, case.present)


def careless(table: FactTable, case: Case, num_findings: int, rng: random.Random) -> str:
    """Look up a few present findings, forget the exclusions, list the genes in random order."""
    telling = [finding for finding in case.present if table.is_telling(finding)]
    looked_up = rng.sample(telling, min(num_findings, len(telling)))
    genes = sorted({gene for finding in looked_up for gene in table.genes_with(finding)})
    rng.shuffle(genes)
    return _text(table, [recall_line(table, finding) for finding in looked_up], genes, looked_up)


def warm_up(table: FactTable, case: Case, rng: random.Random) -> str:
    """A text of the mixture LOOKED_UP."""
    num = rng.choices(list(LOOKED_UP), weights=list(LOOKED_UP.values()))[0]
    return careless(table, case, num, rng) if num else thorough(table, case, rng)


def _text(table: FactTable, lines: Sequence[str], ranked: Sequence[str], looked_up: Sequence[str]) -> str:
    best = ranked[0]
    num_fitting = sum(best in table.genes_with(finding) for finding in looked_up if table.is_telling(finding))
    explanation = f"{best} fits {num_fitting} of {len(looked_up)} findings."
    answer = json.dumps({"genes": list(ranked[:MOST_ANSWERED]), "explanation": explanation})
    return "<think>" + "".join(f"\n- {line}" for line in lines) + f"\n</think>\n{answer}"

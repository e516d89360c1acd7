"""Reasoning texts the base model is warmed up on: the same procedure done carelessly or thoroughly.

    <think>
    - Facial angiofibroma: TSC1 TSC2
    - Seizure: many
    - no Scoliosis: NF1
    </think>
    {"genes": ["TSC2", "TSC1"], "explanation": "TSC2 fits 1 of 2 findings."}

Every text is computed from the case's findings and the fact table, never from the case's gene: it says what the procedure
gives, right or wrong. A careless text stops after the first one or two findings and names the genes as they were recalled.
A thorough one looks up every present finding, counts, takes off a point for each excluded finding a gene is known for, and
sorts. Given how many findings are looked up, both are deterministic: chance decides only when to stop looking.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence

from pinetune.demo.cases import Case
from pinetune.demo.facts import FactTable

MOST_ANSWERED = 4
LOOKED_UP = {1: 0.5, 2: 0.3, 3: 0.1, 0: 0.1}  # findings looked up -> share of the texts; 0 = all of them


def count(named_for: Sequence[Sequence[str]], named_against: Sequence[Sequence[str]]) -> dict[str, int]:
    """Points of each gene in `named_for`: +1 a list of it that names the gene, -1 a list of `named_against` that does."""
    points: Counter[str] = Counter()
    for genes in named_for:
        points.update(genes)
    for genes in named_against:
        points.subtract(gene for gene in genes if gene in points)
    return dict(points)


def tally(table: FactTable, present: Sequence[str], excluded: Sequence[str]) -> dict[str, int]:
    """Points of each gene named by a telling present finding, in the order of recall."""
    named = [[table.genes_with(finding) for finding in findings if table.is_telling(finding)] for findings in (present, excluded)]
    return count(*named)


def recall_line(table: FactTable, finding: str) -> str:
    """What is known of one finding: its genes, or "many".

    Example: "Scoliosis: FBN1 NF1".
    """
    return f"{finding}: {' '.join(table.genes_with(finding)) if table.is_telling(finding) else 'many'}"


def ranked(points: dict[str, int]) -> list[str]:
    """Genes by points, most first; genes with equal points stay in the order in which they were recalled."""
    return sorted(points, key=lambda gene: -points[gene])


def thorough(table: FactTable, case: Case) -> str:
    """Look up everything, count, use the exclusions, rank by agreement."""
    lines = [recall_line(table, finding) for finding in case.present]
    lines += [f"no {recall_line(table, finding)}" for finding in case.excluded]
    return _text(table, lines, ranked(tally(table, case.present, case.excluded))[:MOST_ANSWERED], case.present)


def careless(table: FactTable, case: Case, num_findings: int) -> str:
    """Stop after the first few telling findings, forget the exclusions, name genes in the order of recall."""
    looked_up: list[str] = []
    for finding in case.present:
        looked_up.append(finding)
        if sum(table.is_telling(one) for one in looked_up) == num_findings:
            break
    genes = list(tally(table, looked_up, ()))
    return _text(table, [recall_line(table, finding) for finding in looked_up], genes[:MOST_ANSWERED], looked_up)


def warm_up(table: FactTable, case: Case, rng: random.Random) -> str:
    """A text of the mixture LOOKED_UP."""
    num = rng.choices(list(LOOKED_UP), weights=list(LOOKED_UP.values()))[0]
    return careless(table, case, num) if num else thorough(table, case)


def _text(table: FactTable, lines: Sequence[str], genes: Sequence[str], looked_up: Sequence[str]) -> str:
    num_fitting = sum(genes[0] in table.genes_with(finding) for finding in looked_up if table.is_telling(finding))
    explanation = f"{genes[0]} fits {num_fitting} of {len(looked_up)} findings."
    answer = json.dumps({"genes": list(genes), "explanation": explanation})
    return "<think>" + "".join(f"\n- {line}" for line in lines) + f"\n</think>\n{answer}"

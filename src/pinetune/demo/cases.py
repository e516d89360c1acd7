"""Seeded cases from the fact table: what a clinic would see of a gene, with gaps and noise.

A case shows some of its gene's findings (the rest were missed), one or two findings that have nothing to do with it, and
findings that were looked for and not found. The excluded ones are true and useful: each is typical of another gene that
shares findings with the case, and not of the case's own gene.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.demo.facts import Fact, FactTable

SHOWN = (3, 4)  # findings of the gene that the case shows, least and most
UNRELATED = (2, 2)
EXCLUDED = (1, 2)
LEAST_TELLING = 2  # of the shown findings; with fewer, no reader of the table could find the gene

SHARES = {"train": 0.6, "valid": 0.12, "test": 0.28}  # of the genes
CASES = {"train": 600, "valid": 60, "test": 240}

INSTRUCTION = 'Which genes could cause this? Most likely first, as JSON: {"genes": [...], "explanation": "..."}'


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one patient. `gene` is the answer and never shown."""

    gene: str
    sex: str  # "female" or "male"
    age: int  # years
    present: tuple[str, ...]
    excluded: tuple[str, ...]

    def key(self) -> tuple[frozenset[str], frozenset[str]]:
        """Two cases with the same key ask the same question, whatever the order, sex and age."""
        return frozenset(self.present), frozenset(self.excluded)


def split_genes(table: FactTable, seed: int) -> dict[str, tuple[str, ...]]:
    """Disjoint genes for train, valid and test; the last split takes the remainder."""
    genes = sorted(table.genes)
    random.Random(f"genes {seed}").shuffle(genes)
    bounds, start = {}, 0
    for name, share in SHARES.items():
        stop = len(genes) if name == "test" else start + round(share * len(genes))
        bounds[name] = tuple(genes[start:stop])
        start = stop
    return bounds


def draw_case(table: FactTable, fact: Fact, rng: random.Random) -> Case:
    """One case of `fact`. Same table, fact and rng state: same case."""
    telling = [finding for finding in fact.findings if table.is_telling(finding)]
    num_shown = min(rng.randint(*SHOWN), len(fact.findings))
    shown = rng.sample(telling, min(LEAST_TELLING, len(telling)))
    rest = [finding for finding in fact.findings if finding not in shown]
    shown += rng.sample(rest, max(0, num_shown - len(shown)))
    others = [finding for finding in table.findings if finding not in fact.findings]
    unrelated = rng.sample([finding for finding in others if table.is_telling(finding)], rng.randint(*UNRELATED))
    present = shown + unrelated
    rng.shuffle(present)
    excluded = _excluded(table, fact, present, rng.randint(*EXCLUDED), rng)
    return Case(fact.gene, rng.choice(("female", "male")), rng.randint(1, 60), tuple(present), tuple(excluded))


def _excluded(table: FactTable, fact: Fact, present: Sequence[str], num: int, rng: random.Random) -> list[str]:
    """Findings of the gene's nearest competitors, none of them its own or shown."""
    shared = Counter(gene for finding in present if table.is_telling(finding) for gene in table.genes_with(finding) if gene != fact.gene)
    profiles = {gene: other for gene, other in ((other.gene, other) for other in table.facts) if gene in shared}
    competitors = sorted(shared, key=lambda gene: (-shared[gene], rng.random()))
    chosen: list[str] = []
    for gene in competitors:
        if len(chosen) == num:
            break
        options = [
            finding
            for finding in profiles[gene].findings
            if finding not in fact.findings and finding not in present and finding not in chosen and table.is_telling(finding)
        ]
        if options:
            chosen.append(rng.choice(options))
    return chosen


def draw_cases(table: FactTable, genes: Iterable[str], num: int, seed: str, taken: set[Any] | None = None) -> list[Case]:
    """`num` different cases, the genes taken in turn; none of them asks a question whose key is in `taken`."""
    by_gene = {fact.gene: fact for fact in table.facts}
    names = tuple(genes)
    rng = random.Random(f"cases {seed}")
    seen = set(taken or ())
    cases: list[Case] = []
    while len(cases) < num:
        case = draw_case(table, by_gene[names[len(cases) % len(names)]], rng)
        if case.key() not in seen:
            seen.add(case.key())
            cases.append(case)
    return cases


def demo_cases(table: FactTable, seed: int) -> dict[str, list[Case]]:
    """The demo's cases: train, valid and test, with disjoint genes."""
    splits = split_genes(table, seed)
    return {name: draw_cases(table, genes, CASES[name], f"{name} {seed}") for name, genes in splits.items()}


def findings_text(case: Case) -> str:
    """What was found and what was looked for and not found."""
    present = f"Present: {'; '.join(case.present)}."
    return f"{present}\nAbsent: {'; '.join(case.excluded)}." if case.excluded else present


def case_text(case: Case) -> str:
    """The prompt of a case; short, because every step of training reads it."""
    person = {"female": "woman", "male": "man"} if case.age >= 18 else {"female": "girl", "male": "boy"}
    return f"A {case.age}-year-old {person[case.sex]}.\n{findings_text(case)}\n{INSTRUCTION}"


def case_row(case: Case) -> dict[str, Any]:
    """The case as a row of a reinforcement fine-tuning dataset."""
    digest = hashlib.sha256(repr(case).encode()).hexdigest()[:12]
    return {"id": digest, "messages": [{"role": "user", "content": case_text(case)}], "reference_answer": case.gene}


def write_cases(table: FactTable, folder: Path, seed: int) -> dict[str, Path]:
    """Write train.jsonl, valid.jsonl and test.jsonl; returns their paths by split."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, cases in demo_cases(table, seed).items():
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(case_row(case), ensure_ascii=False) + "\n" for case in cases), encoding="utf-8")
    return paths

"""The case generator: seeded, disjoint, true."""

from __future__ import annotations

import json
import random
from pathlib import Path

from pinetune.demo.cases import CASES, Case, case_row, case_text, demo_cases, draw_case, split_genes, write_cases
from pinetune.demo.facts import load_facts


def test_same_seed_same_files_and_another_seed_others(tmp_path: Path) -> None:
    first = {name: path.read_bytes() for name, path in write_cases(load_facts(), tmp_path / "a", 1).items()}
    again = {name: path.read_bytes() for name, path in write_cases(load_facts(), tmp_path / "b", 1).items()}
    other = {name: path.read_bytes() for name, path in write_cases(load_facts(), tmp_path / "c", 2).items()}
    assert first == again
    assert first["train"] != other["train"]


def test_splits_share_no_gene_and_no_case() -> None:
    cases = demo_cases(load_facts(), 1)
    assert {name: len(some) for name, some in cases.items()} == CASES
    assert CASES["test"] >= 225
    genes = {name: {case.gene for case in some} for name, some in cases.items()}
    assert not genes["train"] & genes["valid"]
    assert not genes["train"] & genes["test"]
    assert not genes["valid"] & genes["test"]
    keys = [case.key() for some in cases.values() for case in some]
    assert len(set(keys)) == len(keys)


def test_every_gene_is_in_exactly_one_split() -> None:
    splits = split_genes(load_facts(), 7)
    assert sorted(gene for genes in splits.values() for gene in genes) == sorted(load_facts().genes)


def test_findings_are_true_noisy_and_usefully_excluded() -> None:
    table = load_facts()
    rng = random.Random(3)
    for fact in table.facts:
        case = draw_case(table, fact, rng)
        own = [finding for finding in case.present if finding in fact.findings]
        assert 3 <= len(own) <= 4
        assert len(case.present) - len(own) == 2
        assert len(set(case.present)) == len(case.present)
        assert not set(case.excluded) & (set(fact.findings) | set(case.present))
        rivals = {gene for finding in case.present for gene in table.genes_with(finding)} - {fact.gene}
        for finding in case.excluded:
            assert rivals & set(table.genes_with(finding))


def test_the_prompt_shows_the_findings_and_never_the_gene_or_condition() -> None:
    case = Case("TSC2", "female", 34, ("Seizure", "Renal angiomyolipoma"), ("Scoliosis",))
    assert case_text(case) == (
        "A 34-year-old woman.\nPresent: Seizure; Renal angiomyolipoma.\nAbsent: Scoliosis.\n"
        'Which genes could cause this? Most likely first, as JSON: {"genes": [...], "explanation": "..."}'
    )
    row = case_row(case)
    assert row["reference_answer"] == "TSC2"
    assert "TSC2" not in json.dumps(row["messages"]) + row["id"]

"""The fact table: real genes, real HPO labels, findings shared enough that one finding alone does not give the gene away."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TERMS = ROOT.parent / "shared" / "data" / "kb" / "hp_terms.jsonl.gz"


def facts() -> dict[str, list[str]]:
    with (ROOT / "src/pinetune/demo/facts.tsv").open(encoding="utf-8", newline="") as file:
        return {row["gene"]: row["findings"].split("; ") for row in csv.DictReader(file, delimiter="\t")}


def test_at_least_150_genes_with_8_to_12_findings_each() -> None:
    table = facts()
    assert len(table) >= 150
    assert all(re.fullmatch(r"[A-Z][A-Z0-9-]{1,8}", gene) for gene in table)
    assert {gene: len(found) for gene, found in table.items() if not 8 <= len(set(found)) == len(found) <= 12} == {}


def test_findings_are_shared_between_genes() -> None:
    counts = Counter(finding for found in facts().values() for finding in found)
    assert sum(counts.values()) / len(counts) >= 3.5
    assert sum(n == 1 for n in counts.values()) / len(counts) < 0.15
    assert max(counts.values()) <= 25


def test_no_two_genes_look_alike() -> None:
    shared = {
        (a, b): len(set(x) & set(y)) / min(len(x), len(y)) for (a, x), (b, y) in itertools.combinations(facts().items(), 2)
    }  # fmt: skip
    assert {pair: share for pair, share in shared.items() if share > 0.6} == {}


@pytest.mark.skipif(not TERMS.exists(), reason="needs ../shared/data/kb/hp_terms.jsonl.gz, the HPO's terms")
def test_every_finding_is_a_real_hpo_label() -> None:
    with gzip.open(TERMS, "rt", encoding="utf-8") as file:
        labels = {json.loads(line)["label"] for line in file}
    assert {finding for found in facts().values() for finding in found} - labels == set()

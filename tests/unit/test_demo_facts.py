"""The fact table's reader and the shipped table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinetune.demo.facts import Fact, FactTable, load_facts, read_facts
from pinetune.errors import DataError

TOY = FactTable(
    (
        Fact("TSC1", "tuberous sclerosis 1", ("Seizure", "Angiofibroma")),
        Fact("NF1", "neurofibromatosis 1", ("Scoliosis", "Lisch nodules", "Seizure")),
        Fact("FBN1", "Marfan syndrome", ("Scoliosis", "Ectopia lentis")),
    )
)


def test_genes_of_a_finding_are_sorted_and_unknown_findings_have_none() -> None:
    assert TOY.genes_with("Seizure") == ("NF1", "TSC1")
    assert TOY.genes_with("Fever") == ()
    assert not TOY.is_telling("Fever")


def test_a_finding_of_too_many_genes_tells_nothing() -> None:
    crowd = FactTable(tuple(Fact(f"G{i}", "", ("Fever",)) for i in range(9)))
    assert not crowd.is_telling("Fever")
    assert FactTable(crowd.facts[:8]).is_telling("Fever")


def test_the_reader_names_every_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("gene\tcondition\tfindings\nA\tx\tFever; Fever\nB\ty\nA\tz\tCough\n")
    with pytest.raises(DataError) as caught:
        read_facts(path)
    assert [text.removeprefix(str(path)) for text in caught.value.complaints] == [
        ":2: findings of A must be non-empty and different from each other",
        ":3: expected 3 tab-separated columns, found 2",
        ":4: gene A occurs twice; merge the lines",
    ]


def test_the_shipped_table_is_big_enough_for_the_demo() -> None:
    table = load_facts()
    assert len(table.genes) >= 150
    for fact in table.facts:
        assert 8 <= len(fact.findings) <= 12, fact.gene
        assert sum(table.is_telling(finding) for finding in fact.findings) >= 3, fact.gene

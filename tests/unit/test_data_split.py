"""Splits keep groups whole, hit their counts, and do not depend on the order of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinetune.data.split import split_rows
from pinetune.errors import DataError
from pinetune.records import Row


def rows_of(genes: Iterable[Any]) -> list[Row]:
    return [Row(i, ({"role": "user", "content": f"q{i}"},), {"id": i, "gene": gene}, line=i + 1) for i, gene in enumerate(genes)]


GENES = [f"G{i}" for i in range(30) for _ in range(1 + i % 7)]  # 30 groups of 1 to 7 rows, 113 rows


def genes(rows: Iterable[Row]) -> set[str]:
    return {row.item["gene"] for row in rows}


def test_groups_are_disjoint_and_counts_exact() -> None:
    made = split_rows(rows_of(GENES), "gene", valid=20, test=10, max_per_group=5, seed=3)
    train, valid, test = made.parts
    assert [part.name for part in made.parts] == ["train", "valid", "test"]
    assert (len(valid.rows), len(test.rows)) == (20, 10)
    assert genes(train.rows) & genes(valid.rows) == genes(train.rows) & genes(test.rows) == genes(valid.rows) & genes(test.rows) == set()
    assert max(Counter(row.item["gene"] for part in made.parts for row in part.rows).values()) == 5
    assert len(train.rows) + 20 + 10 + made.num_over_cap + made.num_trimmed == len(GENES)
    assert [row.index for row in train.rows] == sorted(row.index for row in train.rows)
    assert train.num_groups == len(genes(train.rows))


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    rows = rows_of(GENES)
    ids = {row.item["id"] for row in split_rows(rows, "gene", valid=20, max_per_group=3, seed=1).part("valid").rows}
    turned = [replace(row, index=i) for i, row in enumerate(reversed(rows))]
    assert {row.item["id"] for row in split_rows(turned, "gene", valid=20, max_per_group=3, seed=1).part("valid").rows} == ids
    assert {row.item["id"] for row in split_rows(rows, "gene", valid=20, max_per_group=3, seed=2).part("valid").rows} != ids


def test_a_lower_cap_for_validation_gives_more_groups() -> None:
    rows = rows_of(GENES)
    wide = split_rows(rows, "gene", valid=20, max_per_group=5, max_per_group_valid=1).part("valid")
    assert (wide.num_groups, wide.effective_groups) == (20, pytest.approx(20))
    assert split_rows(rows, "gene", valid=20, max_per_group=5).part("valid").num_groups < 20


def test_a_group_is_cut_where_nothing_fits_and_its_rest_is_left_out() -> None:
    made = split_rows(rows_of(["A"] * 4 + ["B"] * 4 + ["C"] * 4), "gene", valid=5)
    assert (len(made.part("valid").rows), made.part("valid").num_groups, made.num_trimmed) == (5, 2, 3)
    assert len(made.part("train").rows) == 4


def test_skew_is_told() -> None:
    part = split_rows(rows_of(["STXBP1"] * 60 + [f"G{i}" for i in range(20)]), "gene", valid=3).part("train")
    assert (part.num_groups, part.largest_group) == (18, ("STXBP1", 60))
    assert part.effective_groups == pytest.approx(3.169, abs=0.001)  # 60 of 77 rows in one group


def test_spellings_and_lists_join_groups() -> None:
    rows = rows_of(["FBN1", "fbn1 ", ["FBN1", "FBN2"], "fbn2", "A", "B", "C"])
    made = split_rows(rows, "gene", valid=3)
    sides = [{row.index for row in part.rows} & {0, 1, 2, 3} for part in made.parts]
    assert sorted(map(len, sides)) == [0, 4]


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (["A", None], {"valid": 1}, r"f.jsonl:2: gene: missing or empty; split by a field that every row has \(this one has: gene, id\)"),
        (["A", "A"], {"valid": 1}, "f.jsonl: gene: only 1 distinct value, 2 are needed"),
        (["A", "B"], {"valid": 1, "test": 1}, "f.jsonl: gene: only 2 distinct values, 3 are needed"),
        (["A", "B", "B"], {"valid": 3}, "3 rows asked for in valid and test, but at most 2 can be had from 2 groups"),
        (["A", "B", "B"], {"valid": 2, "max_per_group": 1}, r"at most 1 can be had from 2 groups \(3 rows before capping\)"),
        (["A", "B"], {"valid": 0}, "valid must be at least 1"),
        (["A", "B"], {"valid": 1, "max_per_group": 0}, "the cap per group must be at least 1"),
        (["A"] * 3 + ["B"] * 3 + ["C"] * 3, {"valid": 1, "test": 4}, "no group would be left for training"),
    ],
)
def test_what_cannot_be_done_is_said(values: list[Any], options: dict[str, int], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        split_rows(rows_of(values), "gene", file="f.jsonl", **options)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from("ABCDEFGHIJ") | st.lists(st.sampled_from("ABC"), min_size=1, max_size=2), max_size=30),
    valid=st.integers(1, 12),
    test=st.integers(0, 6),
    cap=st.none() | st.integers(1, 4),
)
def test_any_split_is_right_or_refused(values: list[Any], valid: int, test: int, cap: int | None) -> None:
    rows = rows_of(values)
    try:
        made = split_rows(rows, "gene", valid=valid, test=test, max_per_group=cap)
    except DataError:
        return
    assert len(made.part("valid").rows) == valid
    assert made.part("train").rows
    sides = [{letter for row in part.rows for letter in row.item["gene"]} for part in made.parts]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert sum(len(part.rows) for part in made.parts) + made.num_over_cap + made.num_trimmed == len(rows)

"""Answers and prompts that stand on both sides of a split."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pinetune.data.answers import answer_keys, effective_number, find_answer_field, lookup, normalise
from pinetune.data.leakage import check_disjoint
from pinetune.errors import DataError
from pinetune.records import Row


def rows_of(*answers: Any, field: str = "answer", prompts: str = "q") -> list[Row]:
    made = []
    for i, answer in enumerate(answers):
        messages = ({"role": "user", "content": f"{prompts}{i}"},)
        made.append(Row(index=i, messages=messages, item={"messages": messages, field: answer}, line=i + 1))
    return made


def test_the_answer_field_is_found_in_a_fixed_order_and_only_where_every_row_has_it() -> None:
    both = [Row(0, (), {"answer": 1, "label": "x"}), Row(1, (), {"answer": 2, "label": "y"})]
    some = [Row(0, (), {"answer": None, "label": "x"}), Row(1, (), {"label": "y"})]
    assert find_answer_field(both) == "answer"
    assert find_answer_field(both, some) == "label"
    assert find_answer_field([Row(0, (), {"smiles": "C"})]) is None
    assert find_answer_field([], []) is None


def test_lookup_follows_dots_and_plain_keys_win() -> None:
    assert lookup({"answer": {"intent": "w"}}, "item.answer.intent") == "w"
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"answer": "w"}, "answer.intent") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FBN1", " fbn1\n"),
        ("a  b", "A b"),
        (4, "4"),
        (4.0, 4),
        (True, "true"),
        ({"b": 1, "a": "X"}, {"a": "x", "b": 1.0}),
        ("ﬁbrillin", "fibrillin"),
    ],
)
def test_spellings_of_one_answer(one: Any, other: Any) -> None:
    assert normalise(one) == normalise(other)


def test_a_list_of_answers_is_several_answers() -> None:
    assert answer_keys('["FBN1", "TGFBR2"]') == answer_keys(["tgfbr2", "fbn1"]) == {"fbn1", "tgfbr2"}
    assert answer_keys("[not json") == {"[not json"}
    assert answer_keys(None) == answer_keys("  ") == answer_keys([]) == frozenset()


def test_effective_number() -> None:
    assert effective_number([7, 7, 7]) == pytest.approx(3)
    assert effective_number([991] + [1] * 9) == pytest.approx(1.0737, abs=1e-4)
    assert effective_number([]) == 0


def test_disjoint_answers_pass() -> None:
    overlap = check_disjoint(rows_of("A", "B"), rows_of("C", prompts="v"))
    assert (overlap.field, overlap.num_train_answers, overlap.num_valid_answers, overlap.disjoint) == ("answer", 2, 1, True)


def test_shared_answers_are_refused_and_both_lines_named() -> None:
    train, valid = rows_of("FBN1", "KIF11", "TP53"), rows_of("NF1", " kif11 ", ["x", "fbn1"], prompts="v")
    with pytest.raises(DataError) as caught:
        check_disjoint(train, valid, train_file="t.jsonl", valid_file="v.jsonl")
    head, *pairs = caught.value.complaints
    assert head.startswith("v.jsonl: answer: 2 rows with answers that t.jsonl rewards too (2 in all), so")
    assert "pinetune data split ALL.jsonl --by answer" in head
    assert '"allow_answer_overlap": true' in head
    assert pairs == ["v.jsonl:2: same as t.jsonl:2: 'kif11'", 'v.jsonl:3: same as t.jsonl:1: \'["x", "fbn1"]\'']


def test_ten_pairs_then_a_number() -> None:
    train, valid = rows_of(*range(30)), rows_of(*range(14), prompts="v")
    with pytest.raises(DataError) as caught:
        check_disjoint(train, valid)
    assert len(caught.value.complaints) == 12
    assert caught.value.complaints[-1] == "validation file: ... and 4 more"


def test_a_closed_set_of_answers_is_recognised_and_the_option_lets_it_pass() -> None:
    train, valid = rows_of(*["yes", "no"] * 10), rows_of("Yes", prompts="v")
    with pytest.raises(
        DataError, match=r"look like a small closed set \(2 in 20 rows\): if they are one, set \"allow_answer_overlap\": true"
    ):
        check_disjoint(train, valid)
    overlap = check_disjoint(train, valid, allow_answer_overlap=True)
    assert overlap.answer_pairs == ((1, 1, "Yes"),)


def test_the_same_row_on_both_sides_is_refused_even_where_answers_may_recur() -> None:
    with pytest.raises(DataError) as caught:
        check_disjoint(rows_of("yes", "no", "no"), rows_of("YES", "yes", "no"), allow_answer_overlap=True, train_file="t", valid_file="v")
    assert caught.value.complaints == [
        "v: 2 rows also in t, same prompt and same answer; remove them from one of the two files",
        "v:1: same as t:1: 'q0'",
        "v:3: same as t:3: 'q2'",
    ]


def test_the_same_prompt_with_another_answer_is_told_but_not_refused() -> None:
    overlap = check_disjoint(rows_of("A"), rows_of("B"))
    assert overlap.same_prompt_pairs == ((1, 1, "q0"),)
    assert not overlap.disjoint


def test_without_answers_the_prompts_are_compared() -> None:
    assert check_disjoint(rows_of(1, field="smiles"), rows_of(1, field="smiles", prompts="v")).field is None
    with pytest.raises(DataError, match="1 row also in training file"):
        check_disjoint(rows_of(1, field="smiles"), rows_of(2, field="smiles"))


def test_a_told_field_must_be_there() -> None:
    with pytest.raises(
        DataError, match=r"v:1: gene: the answer field is missing \(and 1 more rows\); name one of the row's fields: answer"
    ):
        check_disjoint(rows_of("A", field="gene"), rows_of("B", "C"), "gene", train_file="t", valid_file="v")


def test_pairs_point_to_the_first_training_row_of_the_answer() -> None:
    overlap = check_disjoint(rows_of("A", "A", "B"), rows_of("A", "A", prompts="v"), allow_answer_overlap=True)
    assert [pair[:2] for pair in overlap.answer_pairs] == list(itertools.product([1], [1, 2]))

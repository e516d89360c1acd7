"""Reading answers and voting over them, on answers small enough to count by hand."""

from __future__ import annotations

import json

import pytest

from pinetune.errors import UserError
from pinetune.evals.answer_rules import open_rule
from pinetune.evals.voting import vote


def genes(*names: str, why: str = "because") -> str:
    return json.dumps({"genes": names, "explanation": why})


def key(rule: str, text: str) -> str | None:
    reading = open_rule(rule).read(text)
    return None if reading is None else reading.key


def test_whole_text_counts_without_case_white_space_and_json_layout() -> None:
    assert key("text", " Marfan\nSyndrome ") == key("text", "marfan syndrome")
    assert key("text", '{"a": 1, "b": [2]}') == key("text", '{ "b":[2.0], "A":1 }')
    assert key("text", "4.0") == key("text", "4") != key("text", "four")
    assert key("text", "  ") is None


def test_json_field_is_found_by_its_path_and_absent_is_no_answer() -> None:
    assert key("json:answer.code", 'Sure: {"answer": {"code": "F91.8"}}') == "f91.8"
    assert key("json:score", '{"score": 4.0}') == "4"
    for text in ("F91.8", '{"answer": {}}', '{"answer": {"code": null}}', '{"answer": {"code": 1}} {"answer": {"code": 1}}'):
        assert key("json:answer.code", text) is None


def test_first_entry_of_a_ranked_list() -> None:
    assert key("first", genes("TSC2", "TSC1")) == "tsc2"
    assert key("first:codes", '{"codes": ["A", "B"], "others": ["C"]}') == "a"
    assert key("first", genes()) is None and key("first", "TSC2") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So 3 and 4 make 7.\n#### 1,234.50", "1234.5"),
        ("The answer is $18.", "18"),
        ("The answer is 3. No: the answer is -2e3 metres", "-2000"),
        ("Therefore, the answer is: 0.3333333333", "0.333333"),
        ("so \\boxed{42}", "42"),
        ("It is 7", None),
        ("The answer is unknown", None),
    ],
)
def test_number_after_a_phrase(text: str, expected: str | None) -> None:
    assert key("number", text) == expected


def test_a_phrase_of_ones_own_and_the_last_number() -> None:
    assert key("number:=>", "The answer is 3 => 5") == "5"
    assert key("number:=>", "The answer is 3") is None
    assert key("last_number", "First 3, then 5.5 kg") == "5.5"
    assert key("last_number", "none") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is (c).", "C"),
        ("answer: B", "B"),
        ("Answer is **D**", "D"),
        ("A is wrong, so the correct choice is B", "B"),
        ("(b)", "B"),
        ("Let me think.\nE", "E"),
        ("C) because of the seizures", "C"),
        ("the answer is a gene", None),
        ("The answer is Because", None),
        ("I am not sure", None),
        ("", None),
    ],
)
def test_choice(text: str, expected: str | None) -> None:
    assert key("choice", text) == expected


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("json", "names no field; write json:FIELD"),
        ("text:x", "takes no argument"),
        ("frist", "did you mean 'first'"),
        ("", "known: text, json, first"),
    ],
)
def test_a_wrong_rule_says_what_to_write(rule: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_rule(rule)


def test_the_majority_wins_with_its_first_sample() -> None:
    answers = ["The answer is 5", "no idea", "#### 4", "The answer is 4.0", "The answer is 4"]
    voted = vote(answers, open_rule("number"))
    assert (voted.answer, voted.shown, voted.index) == ("#### 4", "4", 2)
    assert (voted.share, voted.n, voted.num_read) == (0.6, 5, 4)
    assert voted.votes == (("4", 3), ("5", 1))


def test_ties_go_to_what_was_seen_first_and_nothing_readable_is_the_first_sample() -> None:
    assert vote(["#### 2", "#### 1", "#### 1", "#### 2"], open_rule("number")).shown == "2"
    nothing = vote(["hm", "well"], open_rule("number"))
    assert (nothing.answer, nothing.shown, nothing.share, nothing.n, nothing.num_read) == ("hm", "", 0.0, 2, 0)
    with pytest.raises(ValueError, match="at least one"):
        vote([], open_rule("text"))


def test_borda_prefers_what_stands_high_everywhere_and_keeps_the_longest_length() -> None:
    # Points 3, 2, 1 by place: A 3+2+2 = 7, B 2+3 = 5, C 1+1 = 2, D 3; A wins though it leads one list of three only.
    answers = [genes("A", "B", "C"), genes("B", " a ", "C", why="second"), genes("D", "A"), "no list", genes("E", "e")]
    voted = vote(answers, open_rule("borda"))
    assert json.loads(voted.answer) == {"genes": ["A", "B", "D"], "explanation": "because"}
    assert (voted.shown, voted.share, voted.num_read, voted.merged, voted.index) == ("A", 0.2, 3, True, 0)
    assert voted.votes == (("A", 1), ("B", 1), ("D", 1))


def test_reciprocal_places_weigh_the_top_more_than_borda() -> None:
    # 1 / place: X 1 + 1/3 = 1.33, Y 1/2 + 1/2 = 1, Z 1/3 + 1 = 1.33: X was seen first.
    answers = [genes("X", "Y", "Z"), genes("Z", "Y", "X")]
    assert json.loads(vote(answers, open_rule("reciprocal")).answer)["genes"] == ["X", "Z", "Y"]
    # Borda gives all three 4 points: as first seen.
    assert json.loads(vote(answers, open_rule("borda")).answer)["genes"] == ["X", "Y", "Z"]


def test_the_merged_answer_takes_the_explanation_of_a_sample_that_led_with_the_winner() -> None:
    answers = [genes("B", "A", why="of B"), genes("A", "C", why="of A"), genes("A", "D", why="later")]
    assert json.loads(vote(answers, open_rule("reciprocal")).answer) == {"genes": ["A", "B"], "explanation": "of A"}
    assert vote(["no", "lists"], open_rule("borda")).answer == "no"
    other = vote(['{"codes": ["F1"], "why": "x"}'], open_rule("borda"))
    assert json.loads(other.answer) == {"codes": ["F1"], "why": "x"}


def test_weighted_votes_count_what_their_samples_weigh() -> None:
    answers = [genes("A", "B"), genes("A", "C"), genes("B", "A")]
    assert vote(answers, open_rule("first")).shown == "A"
    weighted = vote(answers, open_rule("first"), [0.1, 0.2, 0.5])
    assert (weighted.shown, weighted.index, weighted.share) == ("B", 2, 1 / 3)
    assert weighted.votes == (("B", 1), ("A", 2))  # counts, in the order of their weights
    # 1 / place: A 0.1 + 0.2 + 0.25 = 0.55, B 0.05 + 0.5 = 0.55 and C 0.1; with a little more for the third sample B leads.
    assert json.loads(vote(answers, open_rule("reciprocal"), [0.1, 0.2, 0.6]).answer)["genes"] == ["B", "A"]
    assert json.loads(vote(answers, open_rule("reciprocal")).answer)["genes"] == ["A", "B"]

"""Each gallery grader: exact values, no reward for tricks, and the one source is the same grader as the module."""

from __future__ import annotations

import ast
import importlib
import json
from typing import Any

import pytest
from grading import gallery_value

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader
from pinetune.graders.gallery import (
    code_part_marks,
    final_answer,
    json_fields_f1,
    name_value_f1,
    numeric_tolerance,
    quote_in_source,
    ranked_list,
)
from pinetune.graders.gallery.inline import source_of
from pinetune.graders.gallery.kinds import KINDS, PYTHON_KINDS, describe, new_grader, settings
from pinetune.graders.gallery.numbers import as_number, numbers_in
from pinetune.records import Completion, Row

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ({"answers": ["TSC2"]}, "TSC2", 1.0),
        ({"answers": ["a", " tsc2"]}, "TSC2", 0.7),
        ({"answers": ["a", "b", "TSC2"]}, ["X", "TSC2"], 0.7**2),
        ({"answers": ["b", "TSC2"]}, '["b", "TSC2"]', 1.0),
        ({"answers": [*"abcdefghij", "TSC2"]}, "TSC2", 0.0),
        ({"answers": ["TSC2", *map(str, range(50))]}, "TSC2", 0.0),
        ({"answers": ["TSC2", "TSC2"]}, "TSC2", 0.0),
        ({"answers": ["TSC2", 3]}, "TSC2", 0.0),
        ('{"answers": ["A"]} or {"answers": ["TSC2"]}', "TSC2", 0.0),
        ('```json\n{"answers": ["TSC2"]}\n```', "TSC2", 1.0),
        ('{"answers": ["TSC2"]}' + " " * 20_000, "TSC2", 0.0),
        ("TSC2", "TSC2", 0.0),
        ("", "TSC2", 0.0),
    ],
)
def test_ranked_list(answer: Any, reference: Any, expected: float) -> None:
    assert gallery_value(ranked_list.grade, answer, reference) == expected


REGISTERS = {"CTRL": "0xFF", "mode": "burst"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ctrl": 255, "MODE": "Burst"}, 1.0),
        ({"pairs": {"CTRL": "8'hFF", "mode": "burst"}}, 1.0),
        ({"pairs": [{"name": "CTRL", "value": "8'b1111_1111"}, ["mode", "burst"]]}, 1.0),
        ("CTRL = 0xff\n- mode: burst;", 1.0),
        ({"CTRL": 255}, 2 / 3),
        ({"CTRL": 255, "mode": "single"}, 0.5),
        ({"CTRL": 255, "mode": "burst", "x": 1, "y": 2}, 2 * 2 / 6),
        ({"pairs": [["CTRL", 255]] * 4}, 2 * 1 / 6),
        ({"pairs": [["mode", "burst"], ["mode", "single"], ["CTRL", 255]]}, 2 * 2 / 5),
        ({}, 0.0),
        ("", 0.0),
    ],
)
def test_name_value_f1(answer: Any, expected: float) -> None:
    assert gallery_value(name_value_f1.grade, answer, REGISTERS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("F91.8", 1.0),
        ("f918", 1.0),
        ({"code": "F91.8"}, 1.0),
        ("The code is F91.8, that is F91.8.", 1.0),
        ("F91.81", 0.5),
        ("F91.9", 0.3),
        ("F91", 0.3),
        ("F92.8", 0.0),
        ("F91.8 or F91.9", 0.0),
        ({"code": ["F91.8"]}, 0.0),
        ({"code": "F91.8, F91.9"}, 0.0),
        ("", 0.0),
    ],
)
def test_code_part_marks(answer: Any, expected: float) -> None:
    assert gallery_value(code_part_marks.grade, answer, "F91.8") == expected


SLOTS = {"intent": "Play", "slots": {"artist": "Bach", "n": 2, "tags": ["a", "b"]}}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (SLOTS, 1.0),
        ({"slots": {"tags": ["b", "a"], "n": "2", "artist": " bach "}, "intent": "PLAY"}, 1.0),
        ({"intent": "Play"}, 2 * 1 / 6),
        ({"intent": "Play", "slots": {"artist": "Bach, Liszt", "n": 2}}, 2 * 2 / 8),
        ({"intent": "Play", "slots": {"artist": None, "n": 2, "tags": ["a", "b", "c", "d"]}}, 2 * 4 / 11),
        ("{}", 0.0),
        ("no json", 0.0),
    ],
)
def test_json_fields_f1(answer: Any, expected: float) -> None:
    assert gallery_value(json_fields_f1.grade, answer, SLOTS) == pytest.approx(expected)
    assert gallery_value(json_fields_f1.grade, answer, json.dumps(SLOTS)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("1,000", 1.0),
        ("about $1000.00 in all", 1.0),
        ({"answer": 1009}, 1.0),
        ({"answer": "1040"}, 0.3),
        ("1100", 0.0),
        ("1000 and then 7", 0.0),
        ({"answer": True}, 0.0),
        ({"answer": [1000]}, 0.0),
        ("NaN", 0.0),
        ("1e999", 0.0),
        ("", 0.0),
    ],
)
def test_numeric_tolerance(answer: Any, expected: float) -> None:
    assert gallery_value(numeric_tolerance.grade, answer, 1000) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("So 9 * 2 = 18.\n#### 18", "18", 1.0),
        ("The answer is $18.00.", "18", 1.0),
        ("Therefore, the answer is <18>.", "18", 1.0),
        ("\\boxed{18}", 18, 1.0),
        ("The answer is **Paris**.", "paris", 1.0),
        ("The answer is B) because", "B", 0.0),
        ("The answer is 18. The answer is 19.", "18", 0.0),
        ("The answer is 18.\nThe answer is 19.", "18", 0.0),
        ("The answer is 18.\n#### 18", "18", 1.0),
        ("The answer is 17, 18, 19.", "18", 0.0),
        ("18", "18", 0.0),
        ("", "18", 0.0),
    ],
)
def test_final_answer(answer: str, reference: Any, expected: float) -> None:
    assert gallery_value(final_answer.grade, answer, reference) == expected


SOURCE = "The tenant shall pay rent on the first day.  The landlord\nshall maintain the “common areas” in good order at all times."


@pytest.mark.parametrize(
    ("answer", "passage", "expected"),
    [
        ({"quotes": ["tenant shall pay rent"]}, None, 1.0),
        ({"quotes": ['The landlord shall maintain the "common areas"']}, None, 1.0),
        ('It says "tenant shall pay rent" there.', None, 1.0),
        ({"quotes": ["tenant shall pay rent", "tenant shall dance all night"]}, None, 0.5),
        ({"quotes": ["tenant shall pay rent", "shall pay rent on the first"]}, None, 0.5),
        ({"quotes": ["tenant shall pay rent"] * 11}, None, 0.0),
        ({"quotes": ["the"]}, None, 0.0),
        ({"quotes": []}, None, 0.0),
        ({"quotes": ["tenant shall pay rent"]}, "The tenant shall pay rent on the first day.", 1.0),
        ({"quotes": ["in good order at all times"]}, "The tenant shall pay rent on the first day.", 0.0),
        (SOURCE, None, 0.0),
        ({"quotes": [SOURCE]}, None, 0.0),
        ({"quotes": [SOURCE[:70]]}, "first day", 0.0),
        ("", None, 0.0),
    ],
)
def test_quote_in_source(answer: Any, passage: str | None, expected: float) -> None:
    assert gallery_value(quote_in_source.grade, answer, passage, source=SOURCE) == expected


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,234.5 and -3, then .5 and 7.", [1234.5, -3.0, 0.5, 7.0]),
        ("5-3 v2 x1 3e2", [5.0, 3.0, 300.0]),
        ("1.2.3 and none", []),
        ("", []),
    ],
)
def test_numbers_in(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize(
    ("value", "number"),
    [("$1,234.50", 1234.5), ("12%", 12.0), ("3/4", 0.75), (" 7. ", 7.0), (True, None), ("1/0", None), ("x", None), ("", None), ([1], None)],
)
def test_as_number(value: Any, number: float | None) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize("kind", PYTHON_KINDS)
def test_the_source_stands_alone_and_is_the_same_grader(kind: str) -> None:
    source = new_grader(kind)["source"]
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name and name.startswith("pinetune")]
    alone: dict[str, Any] = {"__name__": "grader"}
    exec(compile(source, kind, "exec"), alone)
    module = importlib.import_module(f"pinetune.graders.gallery.{kind}")
    right = {"code_part_marks": "F91.8", "json_fields_f1": {"a": 1}, "name_value_f1": {"a": 1}}.get(kind, "18")
    item = {"reference_answer": right, "tests": "assert f() == 1", "source": "This is a source of some length for a quote."}
    answers = ['{"answers": ["18"]}', "F91.8", '{"a": 1}', "The answer is 18", "answer = 18", "def f(): return 1"]
    answers.append('{"quotes": ["source of some length"]}')
    for text in answers:
        sample = {"output_text": text, "output_json": None}
        assert alone["grade"](sample, item) == module.grade(sample, item)
    if kind != "quote_in_source":
        assert max(alone["grade"]({"output_text": text, "output_json": None}, item) for text in answers) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_builds_and_says_what_it_is_for(kind: str) -> None:
    assert describe(kind).endswith(".")
    assert all(setting.help for setting in settings(kind).values())
    definition = json.loads(json.dumps(new_grader(kind, name="mine")))
    from pinetune.graders.options import Services

    grader = build_grader(definition, trusted=True, services=Services(ask=lambda request: None))
    assert grader.name == "mine"
    grader.close()


def test_a_setting_reaches_the_grader() -> None:
    definition = new_grader("ranked_list", {"list_field": "genes", "decay": "0.5", "answer_field": "gene"})
    grader = build_grader(definition, trusted=True, json_answers=True)
    try:
        grade = grader.grade(Completion((), (), (), "stop", '{"genes": ["A", "TSC2"]}'), Row(0, (), {"gene": "TSC2"}))
        assert (grade.status, grade.value) == ("ok", 0.5)
    finally:
        grader.close()
    assert "PREFIX_MARKS = {1: 0.2}  # leading" in source_of("code_part_marks", {"prefix_marks": {1: 0.2}})
    assert 'PRELOAD = ("math",)' in new_grader("program_answer", {"preload": "math"})["source"].replace("'", '"')
    assert 'PHRASES = ("Antwort:",)' in new_grader("final_answer", {"phrases": "Antwort:"})["source"].replace("'", '"')


def test_rubric_is_a_weighted_multi_of_judges() -> None:
    parts = {"issue": [0.6, "It names the issue."], "rule": [0.4, "It states the rule."]}
    definition = new_grader("rubric", {"parts": json.dumps(parts), "answer_field": "opinion", "task_field": "facts", "model": "o3"})
    assert definition["calculate_output"] == "0.6 * issue + 0.4 * rule"
    part = definition["graders"]["rule"]
    assert (part["type"], part["model"], part["range"]) == ("score_model", "o3", [0, 1])
    assert "It states the rule." in part["input"][1]["content"]
    assert "{{ item.opinion }}" in part["input"][1]["content"] and "{{ item.facts }}" in part["input"][1]["content"]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("ranked-lists", {}, "unknown grader kind 'ranked-lists'; did you mean ranked_list?"),
        ("zzz", {}, "unknown grader kind 'zzz'; known: ranked_list, name_value_f1"),
        ("ranked_list", {"decai": 1}, "ranked_list has no setting 'decai'; did you mean decay?"),
        ("ranked_list", {"decay": "much"}, 'ranked_list: decay must be of the form 0.7, not "much"'),
        ("ranked_list", {"max_length": "true"}, "ranked_list: max_length must be of the form 50, not true"),
        ("ranked_list", {"answer_field": ""}, 'ranked_list: answer_field must be of the form "reference_answer", not ""'),
        ("final_answer", {"phrases": [1]}, "final_answer: phrases must be of the form"),
        ("code_part_marks", {"prefix_marks": '{"3": "x"}'}, "code_part_marks: prefix_marks must be of the form"),
        ("rubric", {"parts": '{"a": [0.5, "x"]}'}, "rubric: parts: the weights sum to 0.5; make them sum to 1"),
        ("rubric", {"parts": '{"max": [1, "x"]}'}, "'max' cannot be a name in the formula"),
        ("rubric", {"parts": '{"a": 1}'}, 'rubric: parts: a: write [weight, "what is asked of the answer"]'),
    ],
)
def test_bad_settings(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(GraderError) as caught:
        new_grader(kind, values)
    assert message in str(caught.value)

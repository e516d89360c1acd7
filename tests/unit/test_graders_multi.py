"""`multi` graders and their formulas."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.build import build_grader
from pinetune.graders.formula import Formula
from pinetune.records import Completion, Grade, Row

KNOWN = {"a", "b", "name", "email"}
VALUES = {"a": 1.0, "b": 0.5, "name": 1.0, "email": 0.0}


def value(text: str) -> float:
    return Formula.parse(text, KNOWN, "grader.calculate_output").value(VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", 1.0),
        ("0.75 * a + 0.25 * b", 0.875),
        ("(name + email) / 2", 0.5),
        ("a*b", 0.5),
        ("min(1, a + b)", 1.0),
        ("max(a + b, 1e-9)", 1.5),
        ("abs(b - a)", 0.5),
        ("floor(1.7) + ceil(1.2)", 3.0),
        ("exp(0) + log(exp(2)) + sqrt(16)", 7.0),
        ("100 * a / 100", 1.0),
        ("10 - 3 - 2", 5.0),
        ("12 / 3 / 2", 2.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1", 0.5),
        ("--a", 1.0),
        ("-a + +b", -0.5),
        ("2 ** 3", 8.0),
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        (".5 + 1. + 1E1", 11.5),
        (" a\n+ b ", 1.5),
        ("min(a, b, 0.25)", 0.25),
        ("min(3)", 3.0),
    ],
)
def test_value(text: str, expected: float) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a number, a grader or ( is missing at its end of the formula"),
        ("a +", "a number, a grader or ( is missing at its end"),
        ("a b", "unexpected 'b' at character 3"),
        ("(a", "a ) is missing at its end"),
        ("a)", "unexpected ')' at character 2"),
        ("c + 1", "no grader is named 'c + 1' at character 1"),
        ("a + cc", "no grader is named 'cc' at character 5"),
        ("round(a)", "unknown function 'round(a)' at character 1"),
        ("abs(a, b)", "abs takes 1 argument, not 2"),
        ("min()", "a number, a grader or ( is missing ')' at character 5"),
        ("a.b", "cannot read '.b' at character 2"),
        ("__import__('os')", "unknown function"),
        ("a ; b", "cannot read '; b' at character 3"),
        ("a % b", "cannot read '% b'"),
        ("(" * 1000, "nested deeper than 100"),
        ("2^" * 1000 + "2", "nested deeper than 100"),
        ("1+" * 10_000, "more than 10000"),
    ],
)
def test_bad_formulas(text: str, said: str) -> None:
    with pytest.raises(GraderError) as error:
        value(text)
    assert str(error.value).startswith("grader.calculate_output: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text", ["1 / email", "log(email)", "sqrt(-a)", "exp(1e9)", "(-a) ^ 0.5", "9^9^9", "1e400", "1e308 * 10", "email ^ -1"]
)
def test_no_finite_value(text: str) -> None:
    with pytest.raises(GradingFailed) as failure:
        value(text)
    assert failure.value.kind == "formula_parse_error"


@given(st.lists(st.sampled_from([*"ab+-*/^(), .1", "min", "log", "1e9", "sqrt"]), max_size=40))
def test_any_formula_gives_a_number_or_is_refused(tokens: list[str]) -> None:
    with contextlib.suppress(GraderError, GradingFailed):
        assert math.isfinite(value("".join(tokens)))


def check(field: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "string_check",
        "input": f"{{{{ sample.output_json.{field} }}}}",
        "reference": f"{{{{ item.{field} }}}}",
        "operation": "eq",
    } | more


def multi(graders: Any, formula: str) -> dict[str, Any]:
    return {"type": "multi", "graders": graders, "calculate_output": formula}


def grade(definition: dict[str, Any], answer: str, item: dict[str, Any]) -> Grade:
    grader = build_grader(definition, json_answers=True, trusted=True)
    try:
        return grader.grade(Completion((), (), (), "stop", answer), Row(0, (), item))
    finally:
        grader.close()


def test_parts_and_formula() -> None:
    python = {"type": "python", "source": "def grade(sample, item):\n    print('seen')\n    return 0.5"}
    definition = multi({"name": check("name"), "email": check("email", name="inner"), "p": python}, "(name + email) / 2 + p")
    verdict = grade(definition, '{"name": "A", "email": "x"}', {"name": "A", "email": "y"})
    assert (verdict.status, verdict.value, verdict.explanation) == ("ok", 1.0, "p: seen\n")
    assert verdict.parts == {"name": 1.0, "email": 0.0, "p": 0.5}


def test_a_part_that_could_not_grade_leaves_the_whole_ungraded() -> None:
    verdict = grade(multi({"name": check("name"), "email": check("email")}, "name + email"), '{"name": "A"}', {"name": "A", "email": "y"})
    assert (verdict.status, verdict.error_kind, verdict.parts) == ("error", "invalid_variable_error", {"name": 1.0})
    assert verdict.explanation.startswith("email: {{ sample.output_json.email }}: no field 'email'")


def test_a_division_by_zero_is_an_error() -> None:
    verdict = grade(multi({"name": check("name")}, "1 / name"), '{"name": "A"}', {"name": "B"})
    assert (verdict.status, verdict.error_kind) == ("error", "formula_parse_error")
    assert verdict.explanation == "1 / name: float division by zero, with {'name': 0.0}"


def test_a_lone_grader_and_a_list_are_taken() -> None:
    lone = multi(check("name", name="n"), "n")
    assert grade(lone, '{"name": "A"}', {"name": "A"}).value == 1.0
    listed = multi([check("name", name="n"), check("email", name="e")], "n - e")
    assert grade(listed, '{"name": "A", "email": "x"}', {"name": "A", "email": "y"}).value == 1.0


def test_unknown_keys_are_ignored_on_multi() -> None:
    assert build_grader(multi({"n": check("name")}, "n") | {"invalid_grade": 0}).name == "multi"


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (multi({"a": check("x", operation="eqq")}, "a"), "grader.graders.a.operation: must be 'eq'"),
        (
            multi({"a": {"type": "string_chk"}}, "a"),
            "grader.graders.a.type: unknown grader type 'string_chk'; did you mean 'string_check'?",
        ),
        (multi({"a": multi({"b": check("x")}, "b")}, "a"), "grader.graders.a.type: a multi grader cannot stand inside another one"),
        (multi({"a": check("x", input="{{ x }}")}, "a"), "grader.graders.a.input: {{ x }}"),
        (multi({"a-b": check("x")}, "a"), "grader.graders: 'a-b' cannot be a name in the formula"),
        (multi({"min": check("x")}, "min"), "grader.graders: 'min' cannot be a name in the formula"),
        (multi({"a": 3}, "a"), "grader.graders.a: must be a JSON object"),
        (multi({}, "1"), "grader.graders"),
        (multi([check("x"), check("y")], "1"), "grader.graders: two graders have the same name"),
        (multi({"a": check("x")}, "a + b"), "grader.calculate_output: no grader is named 'b'"),
    ],
)
def test_bad_definitions(definition: dict[str, Any], said: str) -> None:
    with pytest.raises(GraderError) as error:
        build_grader(definition)
    assert said in str(error.value)

"""`calculate_output`: names, operators, functions, numbers and what has no value; compared with Python's own arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
from grading import CHECK, grade
from hypothesis import given
from hypothesis import strategies as st

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.formula import Formula

VALUES = {"a": 0.5, "b": 0.25, "name": 1.0, "email": 0.0, "min_length": 2.0}


def value(text: str) -> float:
    return Formula.parse(text, set(VALUES), "grader.calculate_output").value(VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # operators and parentheses
        ("a + b", 0.75),
        ("a - b", 0.25),
        ("a * b", 0.125),
        ("a / b", 2.0),
        ("a ^ 2", 0.25),
        ("2 * (a + b)", 1.5),
        ("a - b - b", 0.0),
        ("name / a / b", 8.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1", 0.5),
        ("1 - -1", 2.0),
        # numbers
        ("1", 1.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-9", 1e-9),
        ("2.5E+2", 250.0),
        # functions
        ("min(a, b)", 0.25),
        ("min(a, b, email)", 0.0),
        ("max(a, b)", 0.5),
        ("max(a)", 0.5),
        ("abs(b - a)", 0.25),
        ("floor(-1.5)", -2.0),
        ("ceil(-1.5)", -1.0),
        ("exp(0)", 1.0),
        ("sqrt(b)", 0.5),
        ("log(exp(a))", 0.5),
        ("log(10)", math.log(10)),  # natural
        ("sqrt(abs(min(-4, a)))", 2.0),
        # formulas in use
        ("0.85 * a + 0.15 * b", 0.85 * 0.5 + 0.15 * 0.25),
        ("(name + email) / 2", 0.5),
        ("name * a", 0.5),
        ("min(1, a + b + name)", 1.0),
        ("max(a + b, 1e-9)", 0.75),
        ("(a + b) / max(a + b, 1e-9)", 1.0),
        ("100 * a / 100", 0.5),
        ("1 - min_length / 4", 0.5),  # a name may begin like a function
    ],
)
def test_values(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected, rel=1e-15)
    assert value(text.replace(" ", "")) == pytest.approx(expected, rel=1e-15)


def part(answer: str, **more: Any) -> dict[str, Any]:
    return {**CHECK, "reference": answer, **more}


def test_variables_are_the_keys_not_the_names() -> None:
    definition = {"type": "multi", "graders": {"key": part("x", name="inner")}, "calculate_output": "key"}
    assert grade(definition, "x").value == 1.0
    with pytest.raises(GraderError, match=r"^grader\.calculate_output: no grader is named 'inner'"):
        grade({**definition, "calculate_output": "inner"}, "x")


def test_unknown_keys_of_a_multi_are_ignored() -> None:
    assert grade({"type": "multi", "graders": {"a": part("x")}, "calculate_output": "a", "invalid_grade": 0}, "x").value == 1.0


NO_VALUE = [
    "1 / a",
    "a / a",
    "log(a)",
    "sqrt(a - 1)",
    "exp(1000)",
    "(a - 1) ^ 0.5",
    "a ^ -1",
    "9^9^9",
    "1e999",
    "10^308 * 10",
    "floor(1e999)",
]


@pytest.mark.parametrize("formula", NO_VALUE)
def test_no_value_is_a_formula_error_and_no_grade(formula: str) -> None:
    verdict = grade({"type": "multi", "graders": {"a": part("x")}, "calculate_output": formula}, "y")
    assert (verdict.status, verdict.error_kind, verdict.parts) == ("error", "formula_parse_error", {"a": 0.0})
    assert verdict.explanation.startswith(f"{formula}: ")


NO_FORMULA = ["", "a +", "(a", "a)", "a b", "c", "a % b", "a // b", "a == b", "round(a)", "abs(a, b)", "min()", "a.b", "a[0]", "'a'"]
NO_FORMULA += ["a if b else a", "1_000", "0x10", "a,b", "lambda: a", "\u221e", "1e", "..", "min", "a(b)", "a^", "()"]


@pytest.mark.parametrize("formula", NO_FORMULA)
def test_what_is_no_formula_is_refused_when_it_is_built(formula: str) -> None:
    with pytest.raises(GraderError, match=r"^grader\.calculate_output: "):
        value(formula)


@pytest.mark.parametrize(
    "formula",
    [
        "9" + "^9" * 90,
        "(" * 99 + "a" + ")" * 99,
        "min(" * 99 + "a" + ")" * 99,
        "-" * 9_999 + "a",
        "+".join(["a"] * 4_999),
        "*".join(["2"] * 4_999),
        "9" * 10_000,
        "1e" + "9" * 9_000,
        "0." + "0" * 9_000 + "1",
        " " * 9_999 + "a",
        "max(" + ",".join(["a"] * 100) + ")",
    ],
)
def test_hostile_formulas_end(formula: str) -> None:
    try:
        assert math.isfinite(value(formula))
    except GradingFailed as failure:
        assert failure.kind == "formula_parse_error"
        assert len(str(failure)) < 500


NUMBERS = st.sampled_from(["0.0", "1.0", "2.", "3.0", "0.5", "1e1", "a", "b", "name", "email"])  # floats: 9**9**9 of ints never ends


@given(st.lists(st.tuples(NUMBERS, st.sampled_from(["+", "-", "*", "/", "**", "*-", "--", "**-"])), max_size=8), NUMBERS)
def test_operators_bind_as_in_python(pairs: list[tuple[str, str]], last: str) -> None:
    check("".join(number + operator for number, operator in pairs) + last)


EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({''.join(parts)})"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]})**({parts[1]})"),
        inner.map(lambda part: f"-({part})"),
        st.tuples(st.sampled_from(["abs", "floor", "ceil", "exp", "sqrt", "log"]), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda parts: f"{parts[0]}({parts[1]},{parts[2]})"),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_expressions_are_worth_what_python_says(text: str) -> None:
    check(text)


def check(text: str) -> None:
    """The formula against Python's own evaluation; where Python has no finite real number, there is none."""
    functions = {name: getattr(math, name) for name in ("floor", "ceil", "exp", "sqrt", "log")}
    try:
        expected = float(eval(text, {"__builtins__": {}, "min": min, "max": max, "abs": math.fabs, **functions}, dict(VALUES)))
    except (ArithmeticError, ValueError, TypeError):  # TypeError: a complex number, also below an abs
        expected = math.nan
    try:
        found = value(text.replace("**", "^"))
    except GradingFailed:
        found = math.nan
    assert found == pytest.approx(expected, rel=1e-9, nan_ok=True) or not math.isfinite(expected)


@given(st.text("ab+-*/^(), .1e9minlogsqrt_", max_size=60))
def test_any_text_has_a_finite_value_or_none(text: str) -> None:
    try:
        assert math.isfinite(value(text))
    except (GraderError, GradingFailed) as error:
        assert str(error)

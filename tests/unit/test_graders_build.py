"""A definition to a grader, or one clear line with the JSON path of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader, parse_definition
from pinetune.records import Completion, Grade, Row
from pinetune.wire.graders import StringCheck

CHECK = {"type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}", "operation": "eq"}


def grade(definition: dict[str, Any], answer: str, item: dict[str, Any], **options: Any) -> Grade:
    grader = build_grader(definition, **options)
    try:
        return grader.grade(Completion((), (), (), "stop", answer), Row(0, (), item))
    finally:
        grader.close()


@pytest.mark.parametrize(
    ("operation", "answer", "reference", "value"),
    [
        ("eq", "Paris", "Paris", 1.0),
        ("eq", "paris", "Paris", 0.0),
        ("eq", "Paris ", "Paris", 0.0),
        ("ne", "Paris", "Paris", 0.0),
        ("ne", "Rome", "Paris", 1.0),
        ("neq", "Rome", "Paris", 1.0),
        ("like", "It is Paris.", "Paris", 1.0),
        ("like", "Paris", "It is Paris.", 0.0),  # the input contains the reference, not the other way round
        ("like", "It is paris.", "Paris", 0.0),
        ("ilike", "It is PARIS.", "Paris", 1.0),
        ("ilike", "STRASSE", "straße", 1.0),
        ("ilike", "Rome", "Paris", 0.0),
        ("like", "P%s", "P%", 1.0),  # no SQL wildcards
        ("like", "Paris", "P%", 0.0),
    ],
)
def test_string_check(operation: str, answer: str, reference: str, value: float) -> None:
    verdict = grade(CHECK | {"operation": operation}, answer, {"answer": reference})
    assert (verdict.status, verdict.value) == ("ok", value)


def test_string_check_compares_numbers_as_text() -> None:
    assert grade(CHECK, "42", {"answer": 42}).value == 1.0


def test_string_check_with_a_missing_variable_could_not_grade() -> None:
    verdict = grade(CHECK, "x", {"other": "x"})
    assert (verdict.status, verdict.error_kind) == ("error", "invalid_variable_error")
    assert "no field 'answer'; there are: other" in verdict.explanation


def test_output_json_needs_json_answers() -> None:
    definition = CHECK | {"input": "{{ sample.output_json.city }}"}
    assert grade(definition, '{"city": "Rome"}', {"answer": "Rome"}, json_answers=True).value == 1.0
    assert grade(definition, '{"city": "Rome"}', {"answer": "Rome"}).error_kind == "invalid_variable_error"


def test_names_are_optional_and_wire_models_are_taken() -> None:
    grader = build_grader({key: value for key, value in CHECK.items() if key != "name"})
    assert grader.name == "string_check"
    assert build_grader(StringCheck(**CHECK)).name == "exact"


PYTHON = {"type": "python", "source": "def grade(sample, item):\n    return 1.0\n"}


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ([], "grader: must be a JSON object"),
        ({}, "grader.type: is missing; add one of: string_check"),
        ({"type": "string_chek"}, "grader.type: unknown grader type 'string_chek'; did you mean 'string_check'?"),
        ({"type": 3}, "grader.type: unknown grader type 3; known: string_check"),
        (CHECK | {"operation": "equals"}, "grader.operation: must be 'eq', 'ne', 'neq', 'like' or 'ilike', not 'equals'"),
        ({"type": "string_check", "input": "a", "operation": "eq"}, "grader.reference: is missing; add it"),
        (CHECK | {"refrence": "x"}, "grader.refrence: unknown parameter 'refrence'; did you mean 'reference'?"),
        (CHECK | {"input": 3}, "grader.input: should be a valid string, not 3"),
        (CHECK | {"input": "{{ answer }}"}, "grader.input: {{ answer }}: a variable starts with item. or sample."),
        ({"type": "python"}, "grader.source: is missing; add it"),
        (PYTHON | {"source": "x = 1"}, "grader.source: defines no function grade(sample, item)"),
        (PYTHON | {"source": "class A:\n    def grade(self, sample, item): ..."}, "grader.source: defines no function grade(sample, item)"),
        (PYTHON | {"source": "def grade(sample, item):\n  return (1.0"}, "grader.source: line 2: '(' was never closed: return (1.0"),
        (PYTHON | {"source": "async def grade(sample, item): ..."}, "grader.source: line 1: grade must be a plain function"),
        (PYTHON | {"source": "def grade(sample): ..."}, "grader.source: line 1: grade is called as grade(sample, item)"),
        (PYTHON | {"source": "def grade(sample, item, more): ..."}, "grader.source: line 1: grade is called as grade(sample, item)"),
        (PYTHON | {"source": "def grade(sample, item, *, more): ..."}, "grader.source: line 1: grade is called as grade(sample, item)"),
        (PYTHON | {"source": PYTHON["source"] + "#" * 256_000}, "a grader's source must be smaller than 256000 bytes"),
        (PYTHON | {"source": "def grade(sample, item): return 1\0"}, "null bytes"),
        (PYTHON | {"source": "x = " + "(" * 50_000}, "grader.source: "),
    ],
)
def test_bad_definitions(definition: Any, said: str) -> None:
    with pytest.raises(GraderError) as error:
        build_grader(definition)
    assert said in str(error.value)
    assert str(error.value).startswith("grader")


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item, weights=[0.5, 0.5]): return 1.0",
        "def grade(*args): return 1.0",
        "grade = lambda sample, item: 1.0",
        "from math import *",
        "try:\n    import nothing as grade\nexcept ImportError:\n    def grade(sample, item): return 1.0",
        "if True:\n    def grade(sample, item, *, more=1): return 1.0",
    ],
)
def test_sources_that_may_define_grade(source: str) -> None:
    grader = build_grader(PYTHON | {"source": source, "name": "mine"}, trusted=True)
    grader.close()
    assert grader.name == "mine"


def test_every_fault_has_its_line() -> None:
    with pytest.raises(GraderError) as error:
        parse_definition({"type": "text_similarity", "input": "a", "evaluation_metric": "blue"}, "method.reinforcement.grader")
    assert str(error.value).splitlines()[0] == "method.reinforcement.grader.reference: is missing; add it"
    assert "method.reinforcement.grader.evaluation_metric: must be 'fuzzy_match'" in str(error.value).splitlines()[1]

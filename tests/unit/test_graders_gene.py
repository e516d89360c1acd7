"""The demo's gene grader: exact values, and no reward for tricks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pinetune.demo.gene_grader import grade
from pinetune.demo.grader import gene_grader_definition
from pinetune.graders.build import build_grader
from pinetune.graders.python import PythonGrader
from pinetune.records import Completion, Row
from pinetune.sandbox.levels import is_bundled

TEN = [f"G{i}" for i in range(10)]


def value(answer: Any, reference: str = "TSC2") -> float:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return grade({"output_text": text, "output_json": None}, {"reference_answer": reference})


@pytest.mark.parametrize(
    ("genes", "expected"),
    [
        (["TSC2"], 1.0),
        (["TSC2", "TSC1"], 1.0),
        (["TSC1", "TSC2"], 0.7),
        (["A", "B", "TSC2"], 0.7**2),
        ([*TEN[:9], "TSC2"], 0.7**9),
        ([*TEN, "TSC2"], 0.0),  # place 11
        (["TSC1"], 0.0),
        ([], 0.0),
        ([" tsc2 "], 1.0),
        (["TSC2", "TSC2"], 0.0),
        (["TSC2", "A", "a"], 0.0),
        (["TSC2"] + [f"G{i}" for i in range(49)], 1.0),
        (["TSC2"] + [f"G{i}" for i in range(50)], 0.0),
        (["TSC1/TSC2"], 0.0),
        (["TSC2 TSC1"], 0.0),
        ("TSC2", 0.0),
        ({"TSC2": 1}, 0.0),
        ([["TSC2"]], 0.0),
        (["TSC2", 3], 0.0),
        ([None], 0.0),
        (None, 0.0),
    ],
)
def test_value_by_place(genes: Any, expected: float) -> None:
    assert value({"genes": genes, "explanation": "because"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"genes": ["TSC2"]}\n```', 1.0),
        ('The answer is {"genes": ["TSC1", "TSC2"]}. Done.', 0.7),
        ('{"genes": ["TSC1"]} or {"genes": ["TSC2"]}', 0.0),
        ('{"genes": ["TSC1"], "genes": ["TSC2"]}', 0.0),
        ('{"genes": ["TSC2"', 0.0),
        ('["TSC2"]', 0.0),
        ("TSC2", 0.0),
        ("", 0.0),
        ('{"a":' * 100_000, 0.0),
    ],
)
def test_value_of_text(text: str, expected: float) -> None:
    assert value(text) == expected


def test_parsed_json_is_used_where_given() -> None:
    assert grade({"output_text": "", "output_json": {"genes": ["tsc2"]}}, {"reference_answer": "TSC2 "}) == 1.0
    assert grade({"output_text": '{"genes": ["TSC2"]}', "output_json": ["TSC2"]}, {"reference_answer": "TSC2"}) == 0.0


def test_runs_as_a_python_grader_without_a_system_package() -> None:
    definition = gene_grader_definition()
    assert is_bundled(definition["source"])  # after a change of gene_grader.py: put its new sha256 into sandbox/levels.py
    assert not is_bundled(definition["source"] + " ")
    grader = build_grader(definition)
    assert isinstance(grader, PythonGrader) and grader.level.name == "trusted"
    try:
        answer = Completion((), (), (), "stop", '{"genes": ["A", "TSC2"]}')
        assert (grader.name, grader.grade(answer, Row(0, (), {"reference_answer": "TSC2"})).value) == ("gene_ranking", 0.7)
        ungraded = grader.grade(answer, Row(0, (), {}))
        assert (ungraded.status, ungraded.error_kind) == ("error", "python_grader_runtime_error")
        assert ungraded.explanation.endswith("KeyError: 'reference_answer'")
    finally:
        grader.close()

"""`POST /fine_tuning/alpha/graders/validate`: the definition as it was understood, or what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grading import CHECK

from pinetune.errors import GraderError
from pinetune.graders.verdict import hide_headers, shown, validate_grader

JUDGE = {"type": "score_model", "name": "j", "model": "gpt-4o", "input": [{"role": "user", "content": "Rate {{ sample.output_text }}"}]}


@pytest.mark.parametrize(
    ("grader", "echo"),
    [
        ({**CHECK, "name": "exact"}, {**CHECK, "name": "exact"}),
        (CHECK, {**CHECK, "name": "string_check"}),  # names are optional and come back filled in
        ({**CHECK, "operation": "neq"}, {**CHECK, "name": "string_check", "operation": "ne"}),
        ({**CHECK, "pass_threshold": 1, "name": "c"}, {**CHECK, "pass_threshold": 1.0, "name": "c"}),
        (JUDGE, {**JUDGE, "range": [0.0, 1.0], "input": [{**JUDGE["input"][0], "type": "message"}]}),
        (
            {**JUDGE, "range": [0, 5], "sampling_params": {"seed": 1, "max_completions_tokens": 9}},
            {
                **JUDGE,
                "range": [0.0, 5.0],
                "sampling_params": {"seed": 1, "max_completions_tokens": 9},
                "input": [{**JUDGE["input"][0], "type": "message"}],
            },
        ),
        (
            {"type": "multi", "graders": {"a": CHECK, "b": {**CHECK, "name": "inner"}}, "calculate_output": "a + b", "invalid_grade": 0},
            {
                "type": "multi",
                "name": "multi",
                "graders": {"a": {**CHECK, "name": "a"}, "b": {**CHECK, "name": "inner"}},
                "calculate_output": "a + b",
            },
        ),
        (
            {"type": "multi", "graders": {**CHECK, "name": "only"}, "calculate_output": "only"},  # the published schema's single grader
            {"type": "multi", "name": "multi", "graders": {"only": {**CHECK, "name": "only"}}, "calculate_output": "only"},
        ),
        (
            {"type": "endpoint", "url": "https://x.example/s", "headers": {"Authorization": "Bearer key"}, "rate_limit": 5},
            {"type": "endpoint", "name": "endpoint", "url": "https://x.example/s", "headers": {"Authorization": "***"}, "rate_limit": 5},
        ),
    ],
)
def test_the_echo(grader: dict[str, Any], echo: dict[str, Any]) -> None:
    response = validate_grader({"grader": grader})
    assert response == {"grader": echo}
    assert json.loads(json.dumps(response)) == response
    if grader["type"] != "endpoint":  # whose headers are hidden now
        assert validate_grader(response) == response


def test_headers_inside_a_multi_are_hidden_too() -> None:
    endpoint = {"type": "endpoint", "url": "https://x.example", "headers": {"X-Key": "secret"}}
    definition = {"type": "multi", "graders": {"e": endpoint}, "calculate_output": "e"}
    assert "secret" not in json.dumps(shown(definition))
    assert "secret" not in json.dumps(validate_grader({"grader": definition}))
    job = {"method": {"reinforcement": {"grader": definition}}, "other": [{**endpoint, "headers": "secret"}], "headers": {"kept": "x"}}
    hidden = hide_headers(job)
    assert "secret" not in json.dumps(hidden)
    assert hidden["method"]["reinforcement"]["grader"]["graders"]["e"] == {**endpoint, "headers": {"X-Key": "***"}}
    assert hidden["headers"] == {"kept": "x"}
    assert "secret" in json.dumps(job)  # the one in use is left as it is


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        ({**CHECK, "input": "{{ answer }}"}, "grader.input: {{ answer }}: a variable starts with item. or sample."),
        ({"type": "python", "source": "x = 1"}, "grader.source: defines no function grade(sample, item)"),
        (
            {"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a +"},
            "grader.calculate_output: a number, a grader or ( is missing",
        ),
        ({**JUDGE, "range": [1, 0]}, "grader.range: must be two numbers, the lower one first"),
        ({**CHECK, "evaluation_metric": "bleu"}, "grader.evaluation_metric: unknown parameter 'evaluation_metric'"),
        ({"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "rouge"}, "grader.evaluation_metric: must be "),
        ({"type": "bleu"}, "grader.type: unknown grader type 'bleu'"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "grader.graders: has too few entries: 0; it needs at least 1"),
        ({}, "grader.type: is missing"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(grader: dict[str, Any], said: str) -> None:
    with pytest.raises(GraderError) as error:
        validate_grader({"grader": grader})
    assert str(error.value).startswith(said)


def test_the_request_itself() -> None:
    with pytest.raises(GraderError, match=r"^grader: is missing; add it"):
        validate_grader({})
    with pytest.raises(GraderError, match=r"^gradr: unknown parameter 'gradr'; did you mean 'grader'\?"):
        validate_grader({"gradr": CHECK, "grader": CHECK})


def test_nothing_of_a_python_grader_runs(tmp_path: Any) -> None:
    made = tmp_path / "made"
    source = f"open({str(made)!r}, 'w')\ndef grade(sample, item): return 1.0\n"
    validate_grader({"grader": {"type": "python", "source": source}}, unsafe_python=True)
    assert not made.exists()

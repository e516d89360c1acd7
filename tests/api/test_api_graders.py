"""graders/run and graders/validate through the official client."""

from __future__ import annotations

import inspect
import shutil
from typing import Any

import httpx
import pytest
from api_server import GRADER
from openai import BadRequestError, OpenAI

KEYS = [
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_server_error_type",
    "python_grader_runtime_error",
    "python_grader_runtime_error_details",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
    "model_grader_server_error_details",
]
confined = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed; python graders cannot be confined")


def python_grader(source: str) -> dict[str, Any]:
    return {"type": "python", "source": source}


def test_run_and_its_fourteen_keys(client: OpenAI) -> None:
    found = client.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="7", item={"reference_answer": "7"})  # type: ignore[arg-type]
    assert (found.reward, found.metadata.name, found.metadata.type) == (1.0, "exact", "string_check")
    raw = found.to_dict()["metadata"]["errors"]  # type: ignore[index]
    assert set(KEYS) <= set(raw)
    assert not any(raw[key] for key in KEYS)
    assert found.metadata.token_usage is None


def test_the_first_client_s_reference_answer(http: httpx.Client) -> None:
    reply = http.post("/fine_tuning/alpha/graders/run", json={"grader": GRADER, "model_sample": "7", "reference_answer": "7"})
    assert reply.json()["reward"] == 1.0


def test_multi_has_its_parts(client: OpenAI) -> None:
    grader: Any = {"type": "multi", "graders": {"a": GRADER, "b": {**GRADER, "operation": "ne"}}, "calculate_output": "0.75 * a + 0.25 * b"}
    found = client.fine_tuning.alpha.graders.run(grader=grader, model_sample="7", item={"reference_answer": "7"})
    assert (found.reward, found.sub_rewards) == (0.75, {"a": 1.0, "b": 0.0})


def test_tool_calls_can_be_graded(http: httpx.Client) -> None:
    grader = {**GRADER, "input": "{{sample.output_tools[0].function.arguments}}", "reference": '{"x": 1}'}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    reply = http.post(
        "/fine_tuning/alpha/graders/run", json={"grader": grader, "model_sample": {"role": "assistant", "tool_calls": [call]}}
    )
    assert reply.json()["reward"] == 1.0


@confined
def test_python_from_a_module(client: OpenAI) -> None:
    source = "import json\n" + inspect.getsource(_graded).replace("_graded", "grade", 1)
    found = client.fine_tuning.alpha.graders.run(grader=python_grader(source), model_sample='{"a": 2}', item={"want": 2})  # type: ignore[arg-type]
    assert found.reward == 0.5


@confined
def test_python_that_fails_is_200_with_flags(client: OpenAI) -> None:
    source = "def grade(sample, item):\n    raise ValueError('no such key')"
    found = client.fine_tuning.alpha.graders.run(grader=python_grader(source), model_sample="x")  # type: ignore[arg-type]
    assert (found.reward, found.metadata.errors.python_grader_runtime_error) == (0.0, True)
    assert "ValueError: no such key" in (found.metadata.errors.python_grader_runtime_error_details or "")


def test_an_unknown_variable_is_200_with_a_flag(client: OpenAI) -> None:
    found = client.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="7", item={})  # type: ignore[arg-type]
    assert (found.reward, found.metadata.errors.invalid_variable_error) == (0.0, True)


def test_validate_echoes_what_was_understood(client: OpenAI) -> None:
    found = client.fine_tuning.alpha.graders.validate(grader={**GRADER, "operation": "neq"})  # type: ignore[arg-type]
    assert found.to_dict() == {"grader": {**GRADER, "operation": "ne"}}


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize(
    ("grader", "param"),
    [
        ({"type": "nope"}, "grader.type"),
        ({**GRADER, "operation": "eqq"}, "grader.operation"),
        ({"type": "multi", "graders": {"a": {"type": "multi", "graders": {}, "calculate_output": "1"}}, "calculate_output": "a"}, "grader"),
        ({"type": "score_model", "model": "local:/etc", "input": [{"role": "user", "content": "x"}]}, "grader.model"),
        ("string_check", "grader"),
    ],
)
def test_wrong_definitions_are_400(http: httpx.Client, verb: str, grader: Any, param: str) -> None:
    body = {"grader": grader, **({"model_sample": "x"} if verb == "run" else {})}
    reply = http.post(f"/fine_tuning/alpha/graders/{verb}", json=body)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["param"].startswith(param), error


def test_the_client_raises_bad_request(client: OpenAI) -> None:
    with pytest.raises(BadRequestError):
        client.fine_tuning.alpha.graders.validate(grader={"type": "nope"})  # type: ignore[arg-type]


def _graded(sample, item, weights=(0.5, 1)):  # type: ignore[no-untyped-def]
    return weights[0] if json.loads(sample["output_text"])["a"] == item["want"] else 0  # type: ignore[name-defined]  # noqa: F821

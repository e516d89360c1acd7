"""OpenAI's error envelope: four keys always, types that follow the status, faults of a body in plain words."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from pinetune.errors import JobError, ModelError
from pinetune.wire.errors import ApiProblem, from_user_error, from_validation


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str
    seed: int = 0


def test_envelope_has_all_four_keys() -> None:
    assert ApiProblem(404, "no such model", code="model_not_found", param="model").body() == {
        "error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_type_follows_the_status(status: int, kind: str) -> None:
    assert ApiProblem(status, "x").type == kind


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert ApiProblem(429, "x", retry_after=0.2).headers() == {"Retry-After": "1"}
    assert ApiProblem(429, "x").headers() == {}


@pytest.mark.parametrize(
    ("body", "param", "code", "words"),
    [
        ({"seed": 1}, "model", "missing_required_parameter", "model: is missing; add it"),
        ({"model": "m", "sed": 1}, "sed", "unknown_parameter", "sed: unknown parameter 'sed'; did you mean 'seed'?"),
        ({"model": "m", "seed": "x"}, "seed", "invalid_value", "seed: "),
    ],
)
def test_faults_of_a_body(body: dict[str, object], param: str, code: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(body)
    problem = from_validation(caught.value, Body)
    assert (problem.status, problem.param, problem.code) == (400, param, code)
    assert problem.message.startswith(words)


def test_errors_of_lower_rooms() -> None:
    problem = from_user_error(JobError("must be at least 1", param="max_tokens"))
    assert (problem.status, problem.param, problem.code, problem.message) == (
        400,
        "max_tokens",
        "invalid_value",
        "max_tokens: must be at least 1",
    )
    assert from_user_error(ModelError("x")).code == "invalid_model"

"""`POST /v1/fine_tuning/alpha/graders/run` and `/validate`: what is asked and what is answered. Shapes only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, Tag

from pinetune.wire.base import Wire


class SampleMessage(Wire):
    """An assistant message in place of a text, so that graders of tool calls can be tried too; the hosted API takes text only."""

    role: str = "assistant"
    content: str | None = None
    tool_calls: list[dict[str, Any]] = Field(default_factory=list)


def _sample_kind(value: Any) -> str:
    return "tag-message" if isinstance(value, (dict, SampleMessage)) else "tag-text"


Sample = Annotated[Annotated[str, Tag("tag-text")] | Annotated[SampleMessage, Tag("tag-message")], Discriminator(_sample_kind)]


class GraderRunRequest(Wire):
    """`reference_answer` is what the first SDK release sent in place of `item`; it becomes `item.reference_answer`."""

    grader: dict[str, Any]
    model_sample: Sample
    item: dict[str, Any] | None = None
    reference_answer: Any = None


class GraderValidateRequest(Wire):
    grader: dict[str, Any]


class GraderErrors(BaseModel):
    """Which of these happened. The first 14 are the published ones; the hosted API was seen to send more, so do we."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None
    sample_parse_error_details: str | None = None
    invalid_variable_error_details: str | None = None
    model_grader_refusal_error_details: str | None = None
    model_grader_parse_error_details: str | None = None
    model_grader_exceeded_max_tokens_error: bool = False
    endpoint_grader_internal_error: bool = False
    endpoint_grader_internal_error_details: str | None = None
    endpoint_grader_server_error: bool = False
    endpoint_grader_server_error_details: str | None = None
    endpoint_grader_safety_check_error: bool = False
    # Ours: without them nobody could tell a division by zero from a typing error.
    formula_parse_error_details: str | None = None
    other_error_details: str | None = None


class TokenUsage(BaseModel):
    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class GraderRunMetadata(BaseModel):
    name: str
    type: str
    errors: GraderErrors
    execution_time: float  # seconds
    scores: dict[str, float]  # of a multi grader, by key
    token_usage: TokenUsage | None  # of all judges together; None where none was asked
    sampled_model_name: str | None  # the judge, or all of them; None where there is none


class GraderRunResponse(BaseModel):
    """`reward` is 0 where an error flag is set."""

    reward: float
    metadata: GraderRunMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, TokenUsage]

"""`/v1/pinetune`: what the hosted product never showed: every rollout, every step's numbers, what the job warned of, the outcome."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class RolloutGrade(BaseModel):
    """`value` is null where the answer could not be graded; `error_kind` and `explanation` say why."""

    status: str
    value: float | None
    error_kind: str
    explanation: str
    parts: dict[str, Any]
    seconds: float | None


class RolloutObject(BaseModel):
    """An answer with its grade, of training or of a held-out report. `id` is the name that `pinetune read --mark` takes."""

    id: str
    object: Literal["rollout"] = "rollout"
    source: Literal["train", "eval"]
    report: str | None  # the held-out report's name: a step's number, or as final-tuned
    step: int
    row_index: int
    sample_index: int
    seed: str | None  # up to 64 bits: more than a number in JavaScript holds
    messages: list[dict[str, Any]]
    reasoning: str
    answer: str
    prompt_tokens: int
    reasoning_tokens: int
    completion_tokens: int
    finish: str
    logprob: float | None
    grade: RolloutGrade
    item: dict[str, Any] | None  # the row itself, which reports keep


class RolloutPage(BaseModel):
    """`total` counts all that fit; the next page begins at `offset` + the length of `data`."""

    object: Literal["list"] = "list"
    data: list[RolloutObject]
    total: int
    offset: int
    has_more: bool


class StepMetrics(BaseModel):
    step: int
    created_at: int
    metrics: dict[str, Any]


class JobOutcome(BaseModel):
    """One side of a comparison. `summary` is the run's summary.json, null until the job has ended well."""

    job_id: str
    status: str
    model: str
    fine_tuned_model: str | None
    method: str
    seed: int
    hyperparameters: dict[str, Any] | None
    best_step: int | None  # with the highest held-out reward
    best_valid_reward_mean: float | None
    last_train_reward_mean: float | None
    summary: dict[str, Any] | None


class Comparison(BaseModel):
    object: Literal["comparison"] = "comparison"
    data: list[JobOutcome]

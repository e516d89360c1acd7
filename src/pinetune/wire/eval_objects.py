"""Evals, their runs and output items as they are shown. Shapes only."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class EvalObject(BaseModel):
    id: str
    object: Literal["eval"] = "eval"
    name: str
    created_at: int
    metadata: dict[str, str] | None
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]


class EvalDeleted(BaseModel):
    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


class ResultCounts(BaseModel):
    """`errored` are items that a model did not answer or a criterion could not grade: neither passed nor failed."""

    total: int = 0
    errored: int = 0
    failed: int = 0
    passed: int = 0


class ModelUsage(BaseModel):
    model_name: str
    invocation_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


class CriterionCounts(BaseModel):
    """`errored` is ours."""

    testing_criteria: str  # the criterion's id
    passed: int = 0
    failed: int = 0
    errored: int = 0


class EvalError(BaseModel):
    code: str
    message: str


class RunObject(BaseModel):
    """`per_model_usage` and `per_testing_criteria_results` are null until the run has ended, as on the hosted API."""

    id: str
    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    report_url: str
    status: str
    model: str
    name: str
    created_at: int
    result_counts: ResultCounts
    per_model_usage: list[ModelUsage] | None
    per_testing_criteria_results: list[CriterionCounts] | None
    data_source: dict[str, Any]
    metadata: dict[str, str] | None
    error: EvalError | None


class RunDeleted(BaseModel):
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str


class OutputItemObject(BaseModel):
    """`status` is pass, fail, or (ours) error, with the reason in `sample.error` or in a result's `error`."""

    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    run_id: str
    eval_id: str
    status: str
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]

"""Stored evals, runs and output items as the API shows them."""

from __future__ import annotations

from typing import Any

from pinetune.store.rows import Eval, EvalRun, OutputItem
from pinetune.wire.eval_objects import EvalError, EvalObject, OutputItemObject, ResultCounts, RunObject

ENDED = ("completed", "failed", "canceled")


def show_eval(evaluation: Eval) -> EvalObject:
    from pinetune.evals.criteria import shown_criterion

    return EvalObject(
        id=evaluation.id,
        name=evaluation.name or "",
        created_at=int(evaluation.created_at),
        metadata=evaluation.metadata,
        data_source_config=evaluation.body["data_source_config"],
        testing_criteria=[shown_criterion(criterion) for criterion in evaluation.body["testing_criteria"]],
    )


def show_run(run: EvalRun, base_url: str, results: dict[str, Any] | None = None) -> RunObject:
    """`base_url` is the caller's way to this server, ending in a slash. `results` stand in for those of a run that has not ended."""
    found = run.result or results or {}
    return RunObject(
        id=run.id,
        eval_id=run.eval_id,
        report_url=f"{base_url}v1/pinetune/evals/{run.eval_id}/runs/{run.id}/report",
        status=run.status,
        model=run.model or "",
        name=run.name or "",
        created_at=int(run.created_at),
        result_counts=ResultCounts.model_validate(found.get("result_counts") or {}),
        per_model_usage=found.get("per_model_usage") if run.status in ENDED else None,
        per_testing_criteria_results=found.get("per_testing_criteria_results") if run.status in ENDED else None,
        data_source=run.body["data_source"],
        metadata=run.metadata,
        error=None if run.error is None else EvalError(code=str(run.error.get("code")), message=str(run.error.get("message"))),
    )


def show_item(item: OutputItem) -> OutputItemObject:
    body = {name: item.body[name] for name in ("datasource_item_id", "datasource_item", "results", "sample")}
    return OutputItemObject(
        id=item.id, created_at=int(item.created_at), run_id=item.run_id, eval_id=item.eval_id, status=item.status, **body
    )

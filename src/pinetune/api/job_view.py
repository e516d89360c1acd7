"""Jobs, events and checkpoints of the store, as OpenAI shows them."""

from __future__ import annotations

from typing import Any

from pinetune.store.rows import Checkpoint, Event, Job, Permission
from pinetune.wire.jobs import CheckpointObject, EventObject, JobError, JobMethod, JobObject, JobProgress, PermissionObject

ASKED = {
    "reinforcement": {
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "n_epochs": "auto",
        "reasoning_effort": "default",
        "compute_multiplier": "auto",
        "eval_interval": "auto",
        "eval_samples": "auto",
    },
    "supervised": {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"},
    "dpo": {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto", "beta": "auto"},
}
LEGACY = ("n_epochs", "batch_size", "learning_rate_multiplier")  # what `job.hyperparameters` has


def show_job(job: Job, organization: str) -> JobObject:
    """Every "auto" is replaced by its number once the worker has decided it."""
    method, hyper = _method(job)
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=_seconds(job.finished_at),
        estimated_finish=_seconds(job.estimated_finish),
        status=job.status,
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=organization,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=job.result_files if job.is_final else [],  # the worker names a file before it is whole
        trained_tokens=job.trained_tokens,
        hyperparameters={name: hyper[name] for name in LEGACY},
        method=method,
        error=_error(job.error) if job.error else None,
        seed=job.seed,
        integrations=job.integrations or [],
        metadata=job.metadata,
        user_provided_suffix=job.suffix,
        usage_metrics=job.usage_metrics,
        eval_id=job.eval_id,
        pinetune=JobProgress(
            step=job.step,
            pause_requested=job.pause_requested,
            tuned_name=job.tuned_name,
            options=job.body.get("pinetune") or {},
        ),
    )


def show_event(event: Event) -> EventObject:
    return EventObject(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data or {},
    )


def show_checkpoint(checkpoint: Checkpoint) -> CheckpointObject:
    return CheckpointObject(
        id=checkpoint.id,
        created_at=int(checkpoint.created_at),
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=checkpoint.job_id,
        step_number=checkpoint.step,
        metrics={"step": checkpoint.step, **checkpoint.metrics},
    )


def show_permission(permission: Permission) -> PermissionObject:
    return PermissionObject(id=permission.id, created_at=int(permission.created_at), project_id=permission.project)


def _error(error: dict[str, Any]) -> JobError:
    return JobError(code=str(error.get("code") or "unknown"), message=str(error.get("message") or ""), param=error.get("param"))


def _method(job: Job) -> tuple[JobMethod, dict[str, Any]]:
    given = (job.body.get("method") or {}).get(job.method) or {}
    asked = ASKED[job.method]
    known = {name: value for name, value in (job.hyperparameters or {}).items() if name in asked}
    hyper = {**asked, **(given.get("hyperparameters") or {}), **known}
    shown = {**given, "hyperparameters": hyper}
    if job.method == "reinforcement":
        shown["grader"] = _grader(given.get("grader"))
        shown.setdefault("response_format", None)
    return JobMethod(type=job.method, **{job.method: shown}), hyper


def _grader(definition: Any) -> Any:
    """With names filled in and headers hidden; an imported job may carry one that we could not run, and it is shown as it is."""
    from pinetune.errors import GraderError
    from pinetune.graders.verdict import shown

    try:
        return shown(definition)
    except GraderError:
        return {"type": definition.get("type", "")} if isinstance(definition, dict) else None


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)

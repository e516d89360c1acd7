"""`/v1/pinetune/jobs/{id}/...`: rollouts, numbers, warnings, report and comparison. Read from the run folder and the store."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from pinetune.api.auth import Who
from pinetune.api.context import Here
from pinetune.api.job_view import show_event
from pinetune.runs.files import finite
from pinetune.runs.folder import RunFolder
from pinetune.store import Store
from pinetune.store.rows import Job
from pinetune.wire.errors import ApiProblem
from pinetune.wire.evidence import Comparison, JobOutcome, RolloutGrade, RolloutObject, RolloutPage, StepMetrics
from pinetune.wire.jobs import EventObject
from pinetune.wire.lists import ListOf

routes = APIRouter(prefix="/pinetune", tags=["pinetune"])
Number = Annotated[int | None, Query(ge=0, le=2**31)]
# A report quotes models: whatever they wrote, the page may load its pictures and nothing else.
CAGE = {"Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox"}


@routes.get("/jobs/{job_id}/rollouts", operation_id="searchRollouts")
async def search_rollouts(
    job_id: str,
    here: Here,
    who: Who,
    step: Number = None,
    row: Number = None,
    status: Literal["ok", "error"] | None = None,
    finish: Literal["stop", "length"] | None = None,
    min_reward: float | None = None,
    max_reward: float | None = None,
    contains: Annotated[str | None, Query(max_length=1000)] = None,
    sort: Literal["step", "reward", "tokens"] = "step",
    order: Literal["asc", "desc"] = "asc",
    offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> RolloutPage:
    """Every completion of the job with its grade, filtered and sorted."""
    from pinetune.runs.rollout_search import RolloutQuery
    from pinetune.runs.rollout_search import search_rollouts as search

    job = await anyio.to_thread.run_sync(here.store.jobs.get, job_id, who.project)
    query = RolloutQuery(step, row, status, finish, min_reward, max_reward, contains, sort, order == "desc", offset, limit)
    total, rows = (0, []) if job.folder is None else await anyio.to_thread.run_sync(search, Path(job.folder), query)
    return RolloutPage(data=[_rollout(row) for row in rows], total=total, offset=offset, has_more=offset + len(rows) < total)


@routes.get("/jobs/{job_id}/metrics", operation_id="listJobMetrics")
def list_metrics(job_id: str, here: Here, who: Who, after_step: Annotated[int, Query(ge=-1, le=2**31)] = -1) -> ListOf[StepMetrics]:
    """The numbers of each step, ascending: what the charts are drawn from."""
    here.store.jobs.get(job_id, who.project)
    rows = here.store.events.metrics(job_id, after_step=after_step)
    shown = [StepMetrics(step=row.step, created_at=int(row.created_at), metrics=finite(row.data)) for row in rows]
    return ListOf(data=shown, has_more=False)


@routes.get("/jobs/{job_id}/warnings", operation_id="listJobWarnings")
def list_warnings(
    job_id: str, here: Here, who: Who, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> ListOf[EventObject]:
    """The events that are warnings and errors, newest first."""
    here.store.jobs.get(job_id, who.project)
    page = here.store.events.list(job_id, after=after, limit=limit, levels=("warn", "error"))
    return ListOf(data=[show_event(event) for event in page.items], has_more=page.has_more)


@routes.get("/jobs/{job_id}/report", operation_id="getJobReport", response_class=FileResponse)
def get_report(job_id: str, here: Here, who: Who) -> Response:
    """The report of a job that has ended, as a page."""
    folder = _folder(here.store.jobs.get(job_id, who.project))
    return _file(folder.report_file, "text/html; charset=utf-8", job_id)


@routes.get("/comparison", operation_id="compareJobs")
def compare_jobs(here: Here, who: Who, job: Annotated[list[str], Query(min_length=1, max_length=20)]) -> Comparison:
    """Jobs side by side: `?job=ID&job=ID`."""
    return Comparison(data=[_outcome(here.store, here.store.jobs.get(id, who.project)) for id in job])


def _outcome(store: Store, job: Job) -> JobOutcome:
    rows = store.events.metrics(job.id)
    held_out = [(row.data["valid_reward_mean"], row.step) for row in rows if _is_number(row.data.get("valid_reward_mean"))]
    best = max(held_out, key=lambda pair: pair[0], default=None)
    trained = [row.data["train_reward_mean"] for row in rows if _is_number(row.data.get("train_reward_mean"))]
    folder = RunFolder(job.folder) if job.folder else None
    return JobOutcome(
        job_id=job.id,
        status=job.status,
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        method=job.method,
        seed=job.seed,
        hyperparameters=job.hyperparameters,
        best_step=best[1] if best else None,
        best_valid_reward_mean=best[0] if best else None,
        last_train_reward_mean=trained[-1] if trained else None,
        summary=finite(folder.read_summary()) if folder is not None and folder.summary_file.exists() else None,
    )


def _folder(job: Job) -> RunFolder:
    """As the worker named it; nothing a user said is part of the path."""
    if job.folder is None:
        raise ApiProblem(404, f"{job.id} has not run yet", code="run_not_found", param="job_id")
    return RunFolder(job.folder)


def _file(path: Path, media_type: str, job_id: str) -> Response:
    if not path.is_file():
        text = f"{job_id} has no such file on this machine: it is written at the job's end, by the worker that ran it"
        raise ApiProblem(404, text, code="report_not_found", param="job_id")
    return FileResponse(path, media_type=media_type, headers=CAGE)


def _rollout(row: dict[str, Any]) -> RolloutObject:
    grade = RolloutGrade(
        status=row["grade_status"],
        value=row["grade_value"],
        error_kind=row["grade_error_kind"],
        explanation=row["grade_explanation"],
        parts=row["grade_parts"],
        seconds=row["grade_seconds"],
    )
    rest = {name: value for name, value in row.items() if name in RolloutObject.model_fields and name != "grade"}
    logprob = row["logprob"] if math.isfinite(row["logprob"]) else None
    return RolloutObject.model_validate({**rest, "seed": str(row["seed"]), "logprob": logprob, "grade": grade})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)

"""`/v1/pinetune/jobs/{id}/...`: numbers, warnings, report and comparison. Read from the run folder and the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from pinetune.api.auth import Who
from pinetune.api.context import Here
from pinetune.api.job_view import show_event
from pinetune.api.pages import CAGE
from pinetune.runs.files import finite
from pinetune.runs.folder import RunFolder
from pinetune.store import Store
from pinetune.store.rows import Job
from pinetune.wire.errors import ApiProblem
from pinetune.wire.evidence import Comparison, JobOutcome, StepMetrics
from pinetune.wire.jobs import EventObject
from pinetune.wire.lists import ListOf

routes = APIRouter(prefix="/pinetune", tags=["pinetune"])


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)

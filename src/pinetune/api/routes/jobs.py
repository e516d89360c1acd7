"""`/v1/fine_tuning/jobs`: create, follow, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from pinetune.api.auth import Who
from pinetune.api.bodies import Body
from pinetune.api.context import Context, Here
from pinetune.api.job_body import new_job
from pinetune.api.job_view import show_checkpoint, show_event, show_job
from pinetune.api.preflight import check_job, refuse_stopped
from pinetune.store.rows import Job
from pinetune.wire.document import METADATA, describe, query_parameter
from pinetune.wire.errors import ApiProblem
from pinetune.wire.jobs import CheckpointObject, CreateJob, EventObject, JobObject
from pinetune.wire.lists import CursorList, ListOf, cursor_list

routes = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])
Limit = Annotated[int, Query(ge=1, le=1000)]


@routes.post("", operation_id="createFineTuningJob", openapi_extra=describe(CreateJob))
async def create_job(body: Body, here: Here, who: Who) -> JobObject:
    """Create a job. Rows are checked after this call: see the job's `error` and events; or before it, where the body asks for that with
    `pinetune.preflight`."""
    own = body.get("pinetune")
    if isinstance(own, dict) and own.get("preflight") == "require":
        refuse_stopped(await to_thread.run_sync(check_job, body, here, who.project, limiter=here.preflights))
    return await to_thread.run_sync(_create, body, here, who.project)


def _create(body: dict[str, Any], here: Context, project: str) -> JobObject:
    new, warnings = new_job(body, here, project)
    job = here.store.jobs.create(new)
    if warnings:
        here.store.events.append(job.id, warnings)
    return _show(job, here)


@routes.get("", operation_id="listPaginatedFineTuningJobs", openapi_extra={"parameters": [query_parameter("metadata", METADATA)]})
def list_jobs(request: Request, here: Here, who: Who, after: str | None = None, limit: Limit = 20) -> ListOf[JobObject]:
    """Jobs of the project, newest first. `metadata[key]=value` filters; `metadata=null` finds those without any."""
    page = here.store.jobs.list(who.project, after=after, limit=limit, metadata=_metadata(request))
    return ListOf(data=[_show(job, here) for job in page.items], has_more=page.has_more)


@routes.get("/{job_id}", operation_id="retrieveFineTuningJob")
def retrieve_job(job_id: str, here: Here, who: Who) -> JobObject:
    """A job as it stands now."""
    return _show(here.store.jobs.get(job_id, who.project), here)


@routes.post("/{job_id}/cancel", operation_id="cancelFineTuningJob")
def cancel_job(job_id: str, here: Here, who: Who) -> JobObject:
    """Cancel a job at once; its checkpoints stay."""
    return _show(here.store.jobs.cancel(job_id, who.project), here)


@routes.post("/{job_id}/pause", operation_id="pauseFineTuningJob")
def pause_job(job_id: str, here: Here, who: Who) -> JobObject:
    """Ask a running job to pause: it makes a checkpoint, which can be called, and is `paused` after that."""
    return _show(here.store.jobs.request_pause(job_id, who.project), here)


@routes.post("/{job_id}/resume", operation_id="resumeFineTuningJob")
def resume_job(job_id: str, here: Here, who: Who) -> JobObject:
    """Queue a paused job again; it goes on from its checkpoint."""
    return _show(here.store.jobs.resume(job_id, who.project), here)


@routes.get("/{job_id}/events", operation_id="listFineTuningEvents")
def list_events(job_id: str, here: Here, who: Who, after: str | None = None, limit: Limit = 20) -> ListOf[EventObject]:
    """What the job told, newest first."""
    here.store.jobs.get(job_id, who.project)
    page = here.store.events.list(job_id, after=after, limit=limit)
    return ListOf(data=[show_event(event) for event in page.items], has_more=page.has_more)


@routes.get("/{job_id}/checkpoints", operation_id="listFineTuningJobCheckpoints")
def list_checkpoints(job_id: str, here: Here, who: Who, after: str | None = None, limit: Limit = 10) -> CursorList[CheckpointObject]:
    """The job's callable checkpoints, highest step first."""
    here.store.jobs.get(job_id, who.project)
    page = here.store.checkpoints.list(job_id, after=after, limit=limit)
    return cursor_list([show_checkpoint(item) for item in page.items], page.has_more)


def _show(job: Job, here: Context) -> JobObject:
    return show_job(job, here.settings.organization)


def _metadata(request: Request) -> Mapping[str, str] | None:
    """From `metadata[k]=v` pairs, or None for `metadata=null`."""
    query = request.query_params
    if "metadata" in query:
        if query["metadata"] in ("null", ""):
            return None
        raise ApiProblem(400, "metadata: write metadata[key]=value, or metadata=null", code="invalid_value", param="metadata")
    prefix = "metadata["
    return {name[len(prefix) : -1]: value for name, value in query.items() if name.startswith(prefix) and name.endswith("]")}

"""`/v1/pinetune/preflight`: is the data sound and the grader sharp, asked before a job is created."""

from __future__ import annotations

import anyio
from fastapi import APIRouter

from pinetune.api.auth import Who
from pinetune.api.bodies import Body
from pinetune.api.context import Here
from pinetune.api.preflight import check_job
from pinetune.wire.document import describe
from pinetune.wire.jobs import CreateJob
from pinetune.wire.preflight import PreflightObject

routes = APIRouter(prefix="/pinetune", tags=["pinetune"])


@routes.post("/preflight", operation_id="checkJob", openapi_extra=describe(CreateJob))
async def check_job_before(body: Body, here: Here, who: Who) -> PreflightObject:
    """Check the job that this body would create, and create nothing. Judges are asked, and paid, for a few answers."""
    return await anyio.to_thread.run_sync(check_job, body, here, who.project, limiter=here.preflights)

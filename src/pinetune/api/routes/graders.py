"""`/v1/fine_tuning/alpha/graders`: try a grader before it trains anything. User python runs in the sandbox only."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
from fastapi import APIRouter

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Context, Here
from pinetune.api.grader_check import refuse_local_judges, without_asking
from pinetune.wire.document import describe
from pinetune.wire.grader_run import GraderRunRequest, GraderRunResponse, GraderValidateRequest

routes = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["graders"])


@routes.post("/run", operation_id="runGrader", openapi_extra=describe(GraderRunRequest))
async def run_grader(body: Body, here: Here, who: Who) -> GraderRunResponse:
    """Grade one answer. A grader that fails is a reward of 0 with its error flags, not an HTTP error."""
    check(body, GraderRunRequest)
    refuse_local_judges(body["grader"])
    return await anyio.to_thread.run_sync(partial(_run, body, here), limiter=here.graders, abandon_on_cancel=True)


@routes.post("/validate", operation_id="validateGrader", openapi_extra=describe(GraderValidateRequest))
async def validate_grader(body: Body, here: Here, who: Who) -> dict[str, Any]:
    """The definition as it was understood: names filled in, aliases resolved, headers hidden."""
    check(body, GraderValidateRequest)
    refuse_local_judges(body["grader"])
    return await anyio.to_thread.run_sync(partial(_validate, body, here), limiter=here.graders)


def _run(body: dict[str, Any], here: Context) -> GraderRunResponse:
    from pinetune.graders.verdict import run_grader as run

    found = run(body, unsafe_python=here.settings.unsafe_python_graders, services=_services(here))
    return GraderRunResponse.model_validate(found)


def _validate(body: dict[str, Any], here: Context) -> dict[str, Any]:
    from pinetune.graders.verdict import validate_grader as validate

    return validate(body, unsafe_python=here.settings.unsafe_python_graders, services=without_asking())


def _services(here: Context) -> Any:
    """Their cache stays open."""
    if here.judges is None:
        from pinetune.api.judges import judge_service

        here.judges = judge_service(here.settings, here.store, here.serving)
    return here.judges.services()

"""`/v1/pinetune/jobs/{id}/judge_budget`: more (or less) for the judges of a job that is paused because theirs is spent."""

from __future__ import annotations

from fastapi import APIRouter

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Here
from pinetune.api.job_view import show_job
from pinetune.wire.document import describe
from pinetune.wire.errors import ApiProblem
from pinetune.wire.jobs import JobObject, JudgeBudget

routes = APIRouter(prefix="/pinetune/jobs", tags=["pinetune"])


@routes.post("/{job_id}/judge_budget", operation_id="setJudgeBudget", openapi_extra=describe(JudgeBudget))
def set_judge_budget(job_id: str, body: Body, here: Here, who: Who) -> JobObject:
    """What the judges of a paused job may cost in all, from its beginning on; resume it to go on. null = no limit."""
    asked = check(body, JudgeBudget)
    values = {f"judge_budget_{name}": getattr(asked, name) for name in sorted(asked.model_fields_set)}
    if not values:
        raise ApiProblem(400, "Give tokens or usd, or both", code="missing_required_parameter", param="tokens")
    job = here.store.jobs.get(job_id, who.project)
    if asked.usd is not None and "judge_budget_usd" not in (job.body.get("pinetune") or {}):
        text = "usd: this job began without judge_budget_usd, so its judges' prices may be missing; give tokens"
        raise ApiProblem(400, text, code="invalid_value", param="usd")
    return show_job(here.store.jobs.set_options(job_id, values, who.project), here.settings.organization)

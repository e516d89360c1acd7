"""`/v1/pinetune/jobs/{id}/rollouts`: every answer of a job with its grade, searched as `pinetune read` searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import anyio
from fastapi import APIRouter
from fastapi import Query as Parameter

from pinetune.api.auth import Who
from pinetune.api.context import Here
from pinetune.errors import UserError
from pinetune.runs.files import finite
from pinetune.runs.folder import RunFolder
from pinetune.wire.errors import ApiProblem
from pinetune.wire.evidence import RolloutGrade, RolloutObject, RolloutPage

if TYPE_CHECKING:
    from pinetune.reading.search import Answer, Query, Sort

routes = APIRouter(prefix="/pinetune", tags=["pinetune"])
Number = Annotated[int | None, Parameter(ge=0, le=2**31)]
Text = Annotated[str, Parameter(max_length=1000)]
SORTS: dict[tuple[str, str], Sort] = {
    ("step", "asc"): "oldest",
    ("step", "desc"): "newest",
    ("reward", "asc"): "reward",
    ("reward", "desc"): "-reward",
    ("tokens", "asc"): "tokens",
    ("tokens", "desc"): "-tokens",
}


@routes.get("/jobs/{job_id}/rollouts", operation_id="searchRollouts")
async def search_rollouts(
    job_id: str,
    here: Here,
    who: Who,
    source: Literal["train", "eval", "any"] = "train",
    step: Number = None,
    row: Number = None,
    sample: Number = None,
    report: Annotated[str | None, Parameter(max_length=200)] = None,
    status: Literal["ok", "error"] | None = None,
    finish: Literal["stop", "length"] | None = None,
    min_reward: float | None = None,
    max_reward: float | None = None,
    part: Annotated[str | None, Parameter(max_length=200)] = None,
    contains: Text = "",
    text: Text = "",
    prompt: Text = "",
    regex: Text = "",
    sort: Literal["step", "reward", "tokens"] = "step",
    order: Literal["asc", "desc"] = "asc",
    offset: Annotated[int, Parameter(ge=0, le=2**40)] = 0,
    limit: Annotated[int, Parameter(ge=1, le=500)] = 20,
) -> RolloutPage:
    """Answers with their grades, filtered and sorted: of training, of the held-out reports (`source=eval`), or both.

    `contains` looks into prompt, thinking and answer, `text` into thinking and answer, whatever the case; `regex` as written
    (Rust's syntax). `part=NAME,LEAST,MOST` keeps answers whose grader part lies within. `report` is a held-out report's name.
    """
    from pinetune.reading.search import Query

    job = await anyio.to_thread.run_sync(here.store.jobs.get, job_id, who.project)
    query = Query(
        text=text, regex=regex, prompt=prompt, anywhere=contains, reward_min=min_reward, reward_max=max_reward, part=_part(part),
        step=step, row=row, sample=sample, status=status, finish=finish, source=_source(source, report), report=report,
        sort=SORTS[sort, order], limit=limit, offset=offset,
    )  # fmt: skip
    total, found = await anyio.to_thread.run_sync(_search, job.folder, query)
    return RolloutPage(data=found, total=total, offset=offset, has_more=offset + len(found) < total)


def _source(source: str, report: str | None) -> Literal["train", "eval"] | None:
    if source == "eval" or report is not None:
        return "eval"
    return "train" if source == "train" else None


def _part(given: str | None) -> tuple[str, float, float] | None:
    from pinetune.reading.search import part_of

    try:
        return None if given is None else part_of(given)
    except UserError as error:
        raise ApiProblem(400, f"part: {error}", code="invalid_value", param="part") from None


def _search(folder: str | None, query: Query) -> tuple[int, list[RolloutObject]]:
    """Nothing where the job has not run, or ran on another machine. The only fault left in a query is its `regex`."""
    from pinetune.reading.search import search

    run = RunFolder(folder) if folder else None
    if run is None or not (run.rollouts.is_dir() or run.evals.is_dir()):
        return 0, []
    try:
        found = search([run.path], query)
    except UserError as error:
        raise ApiProblem(400, str(error), code="invalid_value", param="regex") from None
    return found.total, [_shown(answer) for answer in found.rows]


def _shown(answer: Answer) -> RolloutObject:
    grade = RolloutGrade(
        status=answer.status,
        value=answer.reward,
        error_kind=answer.error_kind,
        explanation=answer.explanation,
        parts=finite(answer.parts),
        seconds=answer.seconds,
    )
    return RolloutObject(
        id=str(answer.id),
        source=answer.id.source,
        report=answer.id.place if answer.id.source == "eval" else None,
        step=answer.step,
        row_index=answer.id.row,
        sample_index=answer.id.sample,
        seed=None if answer.seed is None else str(answer.seed),
        messages=finite(list(answer.messages)),
        reasoning=answer.reasoning,
        answer=answer.answer,
        prompt_tokens=answer.prompt_tokens,
        reasoning_tokens=answer.reasoning_tokens,
        completion_tokens=answer.completion_tokens,
        finish=answer.finish,
        logprob=answer.logprob,
        grade=grade,
        item=finite(answer.item),
    )

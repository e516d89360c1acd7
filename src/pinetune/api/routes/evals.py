"""`/v1/evals`: what is measured, runs of it on any model, and every graded answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from pinetune.api.auth import Who
from pinetune.api.bodies import Body, check
from pinetune.api.context import Context, Here
from pinetune.api.eval_body import new_eval, new_run
from pinetune.api.eval_view import show_eval, show_item, show_run
from pinetune.api.pages import CAGE
from pinetune.store.rows import EvalRun
from pinetune.wire.document import describe
from pinetune.wire.eval_objects import EvalDeleted, EvalObject, OutputItemObject, RunDeleted, RunObject
from pinetune.wire.evals import CreateEval, CreateRun, UpdateEval
from pinetune.wire.lists import CursorList, cursor_list

routes = APIRouter(prefix="/evals", tags=["evals"])
pages = APIRouter(prefix="/pinetune/evals", tags=["pinetune"])
ITEMS_A_PAGE = 50
Limit = Annotated[int, Query(ge=1, le=1000)]
Order = Literal["asc", "desc"]
RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]


@routes.post("", operation_id="createEval", status_code=201, openapi_extra=describe(CreateEval))
def create_eval(body: Body, here: Here, who: Who) -> EvalObject:
    """Say what is measured: what rows look like, and by which criteria their answers are graded."""
    asked, kept = new_eval(body, here)
    return show_eval(here.store.evals.create(who.project, kept, name=asked.name, metadata=asked.metadata))


@routes.get("", operation_id="listEvals")
def list_evals(
    here: Here,
    who: Who,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> CursorList[EvalObject]:
    """Evals of the project, oldest first."""
    page = here.store.evals.list(who.project, after=after, limit=limit, order=order, order_by=order_by)
    return cursor_list([show_eval(item) for item in page.items], page.has_more)


@routes.get("/{eval_id}", operation_id="getEval")
def get_eval(eval_id: str, here: Here, who: Who) -> EvalObject:
    """An eval."""
    return show_eval(here.store.evals.get(eval_id, who.project))


@routes.post("/{eval_id}", operation_id="updateEval", openapi_extra=describe(UpdateEval))
def update_eval(eval_id: str, body: Body, here: Here, who: Who) -> EvalObject:
    """Change its name or metadata; what is left out stays."""
    asked = check(body, UpdateEval)
    values: dict[str, Any] = {name: getattr(asked, name) for name in asked.model_fields_set}
    return show_eval(here.store.evals.update(eval_id, who.project, **values))


@routes.delete("/{eval_id}", operation_id="deleteEval")
def delete_eval(eval_id: str, here: Here, who: Who) -> EvalDeleted:
    """Delete an eval and its runs."""
    here.store.evals.delete(eval_id, who.project)
    return EvalDeleted(eval_id=eval_id)


@routes.post("/{eval_id}/runs", operation_id="createEvalRun", status_code=201, openapi_extra=describe(CreateRun))
def create_run(eval_id: str, body: Body, request: Request, here: Here, who: Who) -> RunObject:
    """Run an eval: on answers that rows bring along (jsonl), or on what a model answers (completions, responses)."""
    evaluation = here.store.evals.get(eval_id, who.project)
    asked, source = new_run(body, evaluation, here, who.project)
    model = source.get("model")
    name = asked.name if asked.name is not None else (model or evaluation.name)
    run = here.store.eval_runs.create(eval_id, who.project, {"data_source": source}, name=name, model=model, metadata=asked.metadata)
    return show_run(run, str(request.base_url))


@routes.get("/{eval_id}/runs", operation_id="getEvalRuns")
def list_runs(
    eval_id: str,
    request: Request,
    here: Here,
    who: Who,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> CursorList[RunObject]:
    """Runs of an eval, oldest first."""
    page = here.store.eval_runs.list(eval_id, who.project, status=status, after=after, limit=limit, order=order)
    return cursor_list([_shown(run, here, request) for run in page.items], page.has_more)


@routes.get("/{eval_id}/runs/{run_id}", operation_id="getEvalRun")
def get_run(eval_id: str, run_id: str, request: Request, here: Here, who: Who) -> RunObject:
    """A run as it stands now; its counts grow while it runs."""
    return _shown(here.store.eval_runs.get(run_id, who.project, eval_id), here, request)


@routes.post("/{eval_id}/runs/{run_id}", operation_id="cancelEvalRun")
@routes.post("/{eval_id}/runs/{run_id}/cancel", operation_id="cancelEvalRunByName")
def cancel_run(eval_id: str, run_id: str, request: Request, here: Here, who: Who) -> RunObject:
    """Cancel a run; items graded so far stay. Clients differ in the URL, so both work. A canceled run stays as it is."""
    run = here.store.eval_runs.get(run_id, who.project, eval_id)
    if run.status != "canceled":
        run = here.store.eval_runs.cancel(run_id, who.project)
    return _shown(run, here, request)


@routes.delete("/{eval_id}/runs/{run_id}", operation_id="deleteEvalRun")
def delete_run(eval_id: str, run_id: str, here: Here, who: Who) -> RunDeleted:
    """Delete a run and its output items."""
    here.store.eval_runs.get(run_id, who.project, eval_id)
    here.store.eval_runs.delete(run_id, who.project)
    return RunDeleted(run_id=run_id)


@routes.get("/{eval_id}/runs/{run_id}/output_items", operation_id="getEvalRunOutputItems")
def list_items(
    eval_id: str,
    run_id: str,
    here: Here,
    who: Who,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: Literal["pass", "fail", "failed", "error"] | None = None,
) -> CursorList[OutputItemObject]:
    """Every answer with its grades, in the order of the rows. `status`: pass, fail, or (ours) error."""
    here.store.eval_runs.get(run_id, who.project, eval_id)
    wanted = "fail" if status == "failed" else status
    page = here.store.eval_runs.items(run_id, status=wanted, after=after, limit=limit, order=order)
    return cursor_list([show_item(item) for item in page.items], page.has_more)


@routes.get("/{eval_id}/runs/{run_id}/output_items/{item_id}", operation_id="getEvalRunOutputItem")
def get_item(eval_id: str, run_id: str, item_id: str, here: Here, who: Who) -> OutputItemObject:
    """One answer with its grades."""
    here.store.eval_runs.get(run_id, who.project, eval_id)
    return show_item(here.store.eval_runs.item(item_id, run_id))


@pages.get("/{eval_id}/runs/{run_id}/report", operation_id="getEvalRunReport", response_class=HTMLResponse)
def get_report(
    eval_id: str,
    run_id: str,
    request: Request,
    here: Here,
    who: Who,
    status: Literal["pass", "fail", "error"] | None = None,
    after: str | None = None,
) -> Response:
    """The run as a page for people: what `report_url` names."""
    from pinetune.api.eval_page import run_page
    from pinetune.evals.measures import measure
    from pinetune.evals.run_items import items_of

    run = here.store.eval_runs.get(run_id, who.project, eval_id)
    page = here.store.eval_runs.items(run_id, status=status, after=after, limit=ITEMS_A_PAGE)
    whole = [] if after else [{"status": item.status, **item.body} for item in items_of(here.store, run_id)]
    measures = measure(whole).measures if whole else {}
    name = here.store.evals.get(eval_id, who.project).name or ""
    shown = run_page(name, _shown(run, here, request), measures, [show_item(item) for item in page.items], status, page.has_more)
    return HTMLResponse(shown, headers=CAGE)


def _shown(run: EvalRun, here: Context, request: Request) -> RunObject:
    """A run under way is counted so far; one that was canceled on the way is added up from its items."""
    base_url = str(request.base_url)
    if run.result or run.status == "queued":
        return show_run(run, base_url)
    if run.status != "canceled":
        number = here.store.eval_runs.counts(run.id)
        passed, failed = number.get("pass", 0), number.get("fail", 0)
        total = sum(number.values())
        counts = {"total": total, "errored": total - passed - failed, "failed": failed, "passed": passed}
        return show_run(run, base_url, {"result_counts": counts})
    from pinetune.evals.criteria import criterion_ids
    from pinetune.evals.items import tally
    from pinetune.evals.run_items import items_of

    criteria = criterion_ids(here.store.evals.get(run.eval_id).body["testing_criteria"])
    return show_run(run, base_url, tally(((item.status, item.body) for item in items_of(here.store, run.id)), criteria))

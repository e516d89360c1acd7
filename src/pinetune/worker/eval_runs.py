"""Runs of evals: claimed by a lease, each item stored as it is graded, so that another worker goes on where this one stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pinetune.errors import BudgetSpent, LeaseLost, MoveRefused, NotFound, PinetuneError, StoreError, UserError
from pinetune.evals.asking import Asker
from pinetune.evals.cases import Case, Prompter, RowSchema, cases_of, read_cases
from pinetune.evals.criteria import Criteria, criterion_ids
from pinetune.evals.eval_run import CONCURRENCY, Plan, run_cases
from pinetune.evals.items import Item, tally
from pinetune.evals.places import Place, Places
from pinetune.evals.run_items import items_of
from pinetune.evals.stored import stored_rows
from pinetune.graders.options import Services
from pinetune.settings import Settings
from pinetune.store import Lease, NewOutputItem, Store
from pinetune.store.rows import Eval, EvalRun
from pinetune.wire.evals import CreateRun, FileContent, FileId, JsonlSource

log = logging.getLogger("pinetune.worker")
MAX_ATTEMPTS = 10  # claims of one run in a row without a new item: what kills its workers would go on for ever


class Stopped(PinetuneError):
    """The worker is told to end; the run goes back to the queue, its items kept."""


class EvalRunner:
    """One worker's. `services` is asked for once, when a run first needs judges."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        name: str,
        stopping: threading.Event,
        *,
        places: Places | None = None,
        services: Callable[[], Services] | None = None,
        lease_seconds: float = 30.0,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._store, self._settings, self._name, self._stopping = store, settings, name, stopping
        self._places, self._open_services = places, services or _judges
        self._services: Services | None = None
        self._seconds, self._concurrency = lease_seconds, concurrency

    def one(self) -> bool:
        """Take the oldest queued run to its end; False when none waits."""
        try:
            self._store.eval_runs.expire()
            claimed = self._store.eval_runs.claim(self._name, self._seconds)
        except StoreError as error:
            log.warning("no claim: %s", error)
            return False
        if claimed is None:
            return False
        run, lease = claimed
        log.info("%s: %s", run.id, run.status)
        try:
            self._run(run, lease)
        except (LeaseLost, MoveRefused, NotFound) as over:
            log.info("%s: %s", run.id, over)
        except Stopped:
            self._give_back(lease)
        except StoreError as error:  # the lease runs out, and another try is made
            log.warning("%s: %s", run.id, error)
        except Exception:
            log.exception("%s", run.id)
        return True

    def _run(self, run: EvalRun, lease: Lease) -> None:
        """Raises what ends the work on it without a result."""
        evaluation = self._store.evals.get(run.eval_id)
        heart = _Heart(self._store, lease, self._seconds, self._stopping)
        error: dict[str, str] | None = None
        try:
            if run.attempts > MAX_ATTEMPTS:
                raise UserError(f"{run.attempts - 1} workers in a row stopped while they worked on this run, without a new item")
            with ExitStack() as stack:
                cases, plan = self._prepare(run, evaluation, stack)

                def keep(items: Sequence[Item]) -> None:
                    self._store.eval_runs.add_items(lease, run.id, [NewOutputItem(i.position, i.status, dict(i.body)) for i in items])

                done = self._store.eval_runs.positions(run.id)
                run_cases(cases, plan, keep=keep, go_on=heart.beat, done=done, concurrency=self._concurrency)
        except StoreError:
            raise
        except Stopped:
            raise
        except BudgetSpent as spent:
            error = {"code": "judge_budget_spent", "message": str(spent)}
        except UserError as fault:
            error = {"code": "invalid_run", "message": str(fault)[:4000]}
        except Exception as fault:
            log.exception("%s", run.id)
            error = {"code": "server_error", "message": f"{type(fault).__name__}: {fault}"[:4000]}
        self._finish(run, evaluation, lease, error)

    def _give_back(self, lease: Lease) -> None:
        """At once to whoever looks for work next, instead of when the lease runs out."""
        try:
            self._store.eval_runs.renew(lease, -1.0)
        except StoreError as error:
            log.warning("%s: %s", lease.id, error)

    def _prepare(self, run: EvalRun, evaluation: Eval, stack: ExitStack) -> tuple[list[Case], Plan]:
        source = CreateRun.model_validate({"data_source": run.body["data_source"]}).data_source
        cases = self._cases(run, source, evaluation)
        definitions = evaluation.body["testing_criteria"]
        criteria = Criteria(definitions, services=self._judging(), unsafe_python=self._settings.unsafe_python_graders)
        stack.callback(criteria.close)
        if isinstance(source, JsonlSource) or source.model is None:
            return cases, Plan(criteria)
        params = source.sampling_params.model_dump(exclude_none=True) if source.sampling_params else {}
        place, own = self._place(source.model, run.project)
        asker = Asker(place, source.type, params, own=own)
        stack.callback(asker.close)
        return cases, Plan(criteria, asker, Prompter(source.input_messages) if source.input_messages else None, params)

    def _cases(self, run: EvalRun, source: Any, evaluation: Eval) -> list[Case]:
        rows = source.source
        if isinstance(rows, FileContent):
            return cases_of((row.item, row.sample) for row in rows.content)
        if isinstance(rows, FileId):
            try:
                file = self._store.files.get(rows.id, run.project)
            except NotFound:
                raise UserError(f"data_source.source.id: the file {rows.id} is gone; upload it again and make a new run") from None
            config = evaluation.body["data_source_config"]
            schema = RowSchema(config["schema"]) if config["type"] == "custom" else None
            return read_cases(self._store.files.local_path(file.id), schema, file.filename)
        return cases_of(stored_rows(self._store, run.project, rows, before=run.created_at))

    def _place(self, model: str, project: str) -> tuple[Place, bool]:
        """Where the model answers, and whether that is our own server."""
        places = self._places or Places.read()
        try:
            self._store.models.resolve(model, project)
        except NotFound:
            place = places.at_remote(model)
            if place is None:
                raise UserError(
                    f"the model {model} does not exist here (any more), nor is it registered in PINETUNE_REMOTE_MODELS"
                ) from None
            return place, False
        place = places.at_serving(model, project)
        if place is None:
            raise UserError(
                f"the model {model} cannot be asked from this worker: set PINETUNE_SERVING_URL, or start it by `pinetune serve`"
            )
        return place, True

    def _judging(self) -> Services:
        if self._services is None:
            self._services = self._open_services()
        return self._services

    def _finish(self, run: EvalRun, evaluation: Eval, lease: Lease, error: Mapping[str, str] | None) -> None:
        stored = [(item.status, item.body) for item in items_of(self._store, run.id)]
        result = tally(stored, criterion_ids(evaluation.body["testing_criteria"]))
        if error is None and stored and all(status == "error" for status, _ in stored):
            error = {
                "code": "all_items_errored",
                "message": f"not one of {len(stored)} items could be graded; the first: {_reason(stored[0][1])}",
            }
        self._store.eval_runs.finish(lease, run.id, "completed" if error is None else "failed", result, error)


class _Heart:
    """Renews the lease from the loop that does the work, so that a loop that hangs loses it."""

    def __init__(self, store: Store, lease: Lease, seconds: float, stopping: threading.Event) -> None:
        self._store, self._lease, self._seconds, self._stopping = store, lease, seconds, stopping
        self._renewed = time.monotonic()

    def beat(self) -> None:
        """Raises Stopped when the worker is to end, LeaseLost when the run is canceled, deleted or somebody else's."""
        if self._stopping.is_set():
            raise Stopped("the worker is told to end")
        late = time.monotonic() - self._renewed
        if late < min(1.0, self._seconds / 4):
            return
        try:
            if not self._store.eval_runs.renew(self._lease, self._seconds):
                raise LeaseLost(f"{self._lease.worker} no longer holds {self._lease.id}")
            self._renewed = time.monotonic()
        except LeaseLost:
            raise
        except StoreError:
            if late > 0.9 * self._seconds:
                raise


def _reason(body: Mapping[str, Any]) -> str:
    faults = [(body.get("sample") or {}).get("error"), *(result.get("error") for result in body.get("results") or [])]
    error: Mapping[str, Any] = next((fault for fault in faults if fault), {})
    return str(error.get("message", "no reason was given"))[:1000]


def _judges() -> Services:
    """Judges as the environment configures them."""
    from pinetune.loop.judging import judge_service
    from pinetune.wire.fine_tuning import PinetuneOptions

    return judge_service(PinetuneOptions()).services()

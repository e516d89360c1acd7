"""Runs of evals and their output items: claimed and leased as jobs are, items told twice are stored once.

queued -> in_progress -> completed | failed; canceled from either of the first two (one `l`, as the hosted API writes it)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from pinetune.errors import LeaseLost, MoveRefused, NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row, count
from pinetune.store.evals import get_eval
from pinetune.store.events import lock_job
from pinetune.store.fencing import ended, held, take_oldest
from pinetune.store.paging import Conditions, Order, columns, page
from pinetune.store.rows import EvalRun, Lease, NewOutputItem, OutputItem, Page
from pinetune.store.schema import EvalRun as RunTable
from pinetune.store.schema import OutputItem as ItemTable
from pinetune.store.webhooks import enqueue

RUNS, ITEMS = columns(RunTable), columns(ItemTable)
UNFINISHED = ("queued", "in_progress")
HOOKS = {"completed": "eval.run.succeeded", "failed": "eval.run.failed", "canceled": "eval.run.canceled"}


class EvalRuns:
    """Workers show the run's lease; a fine-tuning job shows its own for the runs it made."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        eval_id: str,
        project: str,
        body: Mapping[str, Any],
        *,
        name: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        job: Lease | None = None,
    ) -> EvalRun:
        """`body` holds the data_source. A run of a `job` is in progress from the start; one name, one run of that job."""
        now = self._db.now()
        row = {
            "id": ids.new(ids.EVAL_RUN), "created_at": now, "project": project, "eval_id": eval_id, "name": name, "model": model,
            "metadata": None if metadata is None else dict(metadata), "body": dict(body), "result": {},
            "status": "in_progress" if job else "queued", "job_id": job.id if job else None,
        }  # fmt: skip
        with self._db.write() as connection:
            get_eval(connection, eval_id, project)
            if job is not None:
                lock_job(connection, job, now)
                same = (RUNS.c.job_id == job.id, RUNS.c.eval_id == eval_id, RUNS.c.name == name, RUNS.c.deleted_at.is_(None))
                known = connection.execute(select(RUNS).where(*same)).first()
                if known is not None:
                    return as_row(EvalRun, known)
            return as_row(EvalRun, connection.execute(insert(RUNS).values(row).returning(RUNS)).one())

    def get(self, id: str, project: str | None = None, eval_id: str | None = None) -> EvalRun:
        with self._db.read() as connection:
            return _get(connection, id, project, eval_id)

    def list(
        self,
        eval_id: str,
        project: str | None = None,
        *,
        status: str | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> Page[EvalRun]:
        with self._db.read() as connection:
            get_eval(connection, eval_id, project)
            filters: Conditions = [RUNS.c.deleted_at.is_(None)]
            if status is not None:
                filters.append(RUNS.c.status == status)
            return page(
                connection, RUNS, EvalRun, scope=[RUNS.c.eval_id == eval_id], filters=filters, after=after, limit=limit, order=order
            )

    def cancel(self, id: str, project: str | None = None) -> EvalRun:
        """At once; its worker loses the lease. Items graded so far are kept."""
        with self._db.write() as connection:
            run = _get(connection, id, project)
            return self._end(connection, [RUNS.c.id == id], run, "canceled", {}, "cancel")

    def delete(self, id: str, project: str | None = None) -> None:
        with self._db.write() as connection:
            _get(connection, id, project)
            connection.execute(update(RUNS).where(RUNS.c.id == id).values(deleted_at=self._db.now(), body={}, result={}, **ended(RUNS)))
            connection.execute(delete(ITEMS).where(ITEMS.c.run_id == id))

    # A worker's

    def claim(self, worker: str, seconds: float) -> tuple[EvalRun, Lease] | None:
        """Take the oldest queued run; None when there is none."""
        waiting = [RUNS.c.status == "queued", RUNS.c.deleted_at.is_(None)]
        with self._db.write() as connection:
            row = take_oldest(connection, RUNS, waiting, worker, self._db.now() + seconds, {"status": "in_progress"})
        return None if row is None else (as_row(EvalRun, row), Lease(row.id, worker, row.fence))

    def renew(self, lease: Lease, seconds: float) -> bool:
        """False: no longer this worker's."""
        with self._db.write() as connection:
            return count(connection, update(RUNS).where(*held(RUNS, lease)).values(lease_until=self._db.now() + seconds)) == 1

    def expire(self) -> int:
        """Give the runs of vanished workers back to the queue, their items kept; how many."""
        late = (RUNS.c.status == "in_progress", RUNS.c.worker.is_not(None), RUNS.c.lease_until < self._db.now())
        with self._db.write() as connection:
            return count(connection, update(RUNS).where(*late).values(status="queued", **ended(RUNS)))

    def abandon(self, worker: str) -> int:
        """Give back what `worker`, whose process is known to be dead, holds, without waiting for its leases; how many."""
        with self._db.write() as connection:
            connection.execute(update(RUNS).where(RUNS.c.worker == worker).values(lease_until=0.0))
        return self.expire()

    def add_items(self, lease: Lease, run_id: str, items: Sequence[NewOutputItem]) -> int:
        """Store the items whose position the run does not have yet; how many were new. All or none."""
        now = self._db.now()
        with self._db.write() as connection:
            run = _lock(connection, lease, run_id, now)
            known = set(connection.execute(select(ITEMS.c.position).where(ITEMS.c.run_id == run_id)).scalars())
            fresh = {item.position: item for item in items if item.position not in known}
            rows = [
                {
                    "id": ids.new(ids.OUTPUT_ITEM), "created_at": now, "run_id": run_id, "eval_id": run.eval_id,
                    "position": item.position, "status": item.status, "body": dict(item.body),
                }
                for item in fresh.values()
            ]  # fmt: skip
            if rows:
                connection.execute(insert(ITEMS), rows)
                connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(attempts=0))  # progress: counting starts anew
            return len(rows)

    def positions(self, run_id: str) -> frozenset[int]:
        """Of the items that are stored: what a worker that takes over need not do again."""
        with self._db.read() as connection:
            return frozenset(connection.execute(select(ITEMS.c.position).where(ITEMS.c.run_id == run_id)).scalars())

    def counts(self, run_id: str) -> dict[str, int]:
        """How many items there are of each status."""
        query = select(ITEMS.c.status, func.count().label("n")).where(ITEMS.c.run_id == run_id).group_by(ITEMS.c.status)
        with self._db.read() as connection:
            return {row.status: row.n for row in connection.execute(query)}

    def finish(
        self,
        lease: Lease,
        run_id: str,
        status: Literal["completed", "failed"],
        result: Mapping[str, Any],
        error: Mapping[str, Any] | None = None,
    ) -> EvalRun:
        """`result` holds result_counts, per_model_usage and per_testing_criteria_results; `error` code and message."""
        values = {"result": dict(result), "error": None if error is None else dict(error)}
        with self._db.write() as connection:
            run = _lock(connection, lease, run_id, self._db.now())
            return self._end(connection, [RUNS.c.id == run_id], run, status, values, "finish")

    # Items

    def items(
        self, run_id: str, *, status: str | None = None, after: str | None = None, limit: int = 20, order: Order = "asc"
    ) -> Page[OutputItem]:
        with self._db.read() as connection:
            filters = [] if status is None else [ITEMS.c.status == status]
            scope = [ITEMS.c.run_id == run_id]
            return page(
                connection, ITEMS, OutputItem, scope=scope, filters=filters, after=after, limit=limit, order=order, by=("position",)
            )

    def item(self, id: str, run_id: str) -> OutputItem:
        with self._db.read() as connection:
            row = connection.execute(select(ITEMS).where(ITEMS.c.id == id, ITEMS.c.run_id == run_id)).one_or_none()
        if row is None:
            raise NotFound("output item", id)
        return as_row(OutputItem, row)

    def _end(self, connection: Connection, where: Conditions, run: EvalRun, status: str, values: Mapping[str, Any], verb: str) -> EvalRun:
        now = self._db.now()
        new = {"status": status, "finished_at": now, **values, **ended(RUNS)}
        guard = [*where, RUNS.c.status.in_(UNFINISHED)]
        row = connection.execute(update(RUNS).where(*guard).values(new).returning(RUNS)).one_or_none()
        if row is None:
            raise MoveRefused(f"Cannot {verb} run {run.id}: it is {run.status}, and must be queued or in_progress", run.status, verb)
        if row.job_id is None:  # the runs a job makes are announced with the job
            enqueue(connection, row.project, HOOKS[status], row.id, now)
        return as_row(EvalRun, row)


def _lock(connection: Connection, lease: Lease, run_id: str, now: float) -> EvalRun:
    """Hold the run for this transaction and prove the lease: the run's own, or that of the job that made it."""
    if lease.id == run_id:
        row = connection.execute(select(RUNS).where(*held(RUNS, lease)).with_for_update()).one_or_none()
        if row is None:
            raise LeaseLost(f"Worker {lease.worker} no longer holds {run_id}")
        return as_row(EvalRun, row)
    lock_job(connection, lease, now)
    run = _get(connection, run_id, None)
    if run.job_id != lease.id:
        raise LeaseLost(f"{run_id} is not a run of {lease.id}")
    return run


def _get(connection: Connection, id: str, project: str | None, eval_id: str | None = None) -> EvalRun:
    row = connection.execute(select(RUNS).where(RUNS.c.id == id, RUNS.c.deleted_at.is_(None))).one_or_none()
    if row is None or (project is not None and row.project != project) or (eval_id is not None and row.eval_id != eval_id):
        raise NotFound("eval run", id)
    return as_row(EvalRun, row)

"""Evals: what is measured and by which criteria. Their runs stand in `eval_runs.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from pinetune.errors import NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row
from pinetune.store.events import lock_job
from pinetune.store.paging import Order, columns, page
from pinetune.store.rows import Eval, Lease, Page
from pinetune.store.schema import Eval as EvalTable
from pinetune.store.schema import EvalRun as RunTable
from pinetune.store.schema import Job as JobTable

EVALS, RUNS, JOBS = columns(EvalTable), columns(RunTable), columns(JobTable)


class Evals:
    """Evals of a project; project None sees all."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(
        self,
        project: str,
        body: Mapping[str, Any],
        *,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        job: Lease | None = None,
    ) -> Eval:
        """`body` holds data_source_config and testing_criteria as returned to users.

        With the lease of a `job`, the eval becomes the job's own (its `eval_id`); a job that has one gets that one back.
        """
        now = self._db.now()
        row = {
            "id": ids.new(ids.EVAL), "created_at": now, "updated_at": now, "project": project, "name": name,
            "metadata": None if metadata is None else dict(metadata), "body": dict(body),
        }  # fmt: skip
        with self._db.write() as connection:
            if job is not None:
                lock_job(connection, job, now)
                known = connection.execute(select(JOBS.c.eval_id).where(JOBS.c.id == job.id)).scalar()
                if known is not None:
                    return get_eval(connection, known, project)
                connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(eval_id=row["id"]))
            return as_row(Eval, connection.execute(insert(EVALS).values(row).returning(EVALS)).one())

    def get(self, id: str, project: str | None = None) -> Eval:
        with self._db.read() as connection:
            return get_eval(connection, id, project)

    def list(
        self,
        project: str | None = None,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        order_by: Literal["created_at", "updated_at"] = "created_at",
    ) -> Page[Eval]:
        with self._db.read() as connection:
            scope = [] if project is None else [EVALS.c.project == project]
            kept = [EVALS.c.deleted_at.is_(None)]
            return page(connection, EVALS, Eval, scope=scope, filters=kept, after=after, limit=limit, order=order, by=(order_by, "seq"))

    def update(self, id: str, project: str | None = None, **values: Any) -> Eval:
        """Set `name` or `metadata`, the only things of an eval that change."""
        wrong = set(values) - {"name", "metadata"}
        if wrong:
            raise TypeError(f"not to be changed: {', '.join(sorted(wrong))}")
        with self._db.write() as connection:
            get_eval(connection, id, project)
            row = connection.execute(
                update(EVALS).where(EVALS.c.id == id).values(updated_at=self._db.now(), **values).returning(EVALS)
            ).one()
            return as_row(Eval, row)

    def delete(self, id: str, project: str | None = None) -> None:
        """With its runs; runs that are being worked on lose their worker."""
        now = self._db.now()
        with self._db.write() as connection:
            get_eval(connection, id, project)
            connection.execute(update(EVALS).where(EVALS.c.id == id).values(deleted_at=now, body={}, name=None, metadata=None))
            gone = {"deleted_at": now, "worker": None, "lease_until": None, "fence": RUNS.c.fence + 1}
            connection.execute(update(RUNS).where(RUNS.c.eval_id == id, RUNS.c.deleted_at.is_(None)).values(gone))


def get_eval(connection: Connection, id: str, project: str | None) -> Eval:
    row = connection.execute(select(EVALS).where(EVALS.c.id == id, EVALS.c.deleted_at.is_(None))).one_or_none()
    if row is None or (project is not None and row.project != project):
        raise NotFound("eval", id)
    return as_row(Eval, row)

"""What a job tells: events in their order, and the numbers of each step. Told twice, stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from pinetune.errors import LeaseLost, NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row, count
from pinetune.store.fencing import held
from pinetune.store.paging import Order, columns, page
from pinetune.store.rows import Event, Lease, Metric, NewEvent, Page
from pinetune.store.schema import Event as EventTable
from pinetune.store.schema import Job as JobTable
from pinetune.store.schema import Metric as MetricTable

EVENTS, METRICS, JOBS = columns(EventTable), columns(MetricTable), columns(JobTable)


class Events:
    """Events and metrics. Writers show the job's lease; the server itself, which holds none, names the job's id."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def append(self, by: Lease | str, events: Sequence[NewEvent]) -> int:
        """Store those of `events` whose key the job does not have yet; how many were new. All or none.

        Raises LeaseLost when `by` is an outdated lease, NotFound for an unknown job.
        """
        with self._db.write() as connection:
            return insert_events(connection, lock_job(connection, by, self._db.now()), events, self._db.now())

    def list(
        self, job_id: str, *, after: str | None = None, limit: int = 20, order: Order = "desc", levels: Sequence[str] = ()
    ) -> Page[Event]:
        """Newest first unless `order` is "asc"; only those of `levels` where any are named."""
        with self._db.read() as connection:
            scope = [EVENTS.c.job_id == job_id]
            filters = [EVENTS.c.level.in_(levels)] if levels else []
            return page(connection, EVENTS, Event, scope=scope, filters=filters, after=after, limit=limit, order=order, by=("position",))

    def count(self) -> int:
        """Of all jobs together."""
        with self._db.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(JOBS.c.last_position), 0))).scalar_one())

    def since(self, job_id: str, position: int, limit: int = 1000) -> tuple[Event, ...]:
        """Events after `position` (0 = all) in their order: for whoever follows a job."""
        with self._db.read() as connection:
            where = (EVENTS.c.job_id == job_id, EVENTS.c.position > position)
            rows = connection.execute(select(EVENTS).where(*where).order_by(EVENTS.c.position).limit(limit))
            return tuple(as_row(Event, row) for row in rows)

    def put_metrics(self, lease: Lease, step: int, values: Mapping[str, Any], rollouts: str | None = None) -> None:
        """Add `values` to the step's numbers (training and evaluation of a step share a row); the same key is replaced."""
        with self._db.write() as connection:
            now = self._db.now()
            lock_job(connection, lease, now)
            where = (METRICS.c.job_id == lease.id, METRICS.c.step == step)
            old = connection.execute(select(METRICS).where(*where)).one_or_none()
            if old is None:
                row = {"job_id": lease.id, "step": step, "created_at": now, "data": dict(values), "rollouts": rollouts}
                connection.execute(insert(METRICS).values(row))
            else:
                merged = {"data": {**old.data, **values}, "rollouts": rollouts or old.rollouts}
                connection.execute(update(METRICS).where(*where).values(merged))
            connection.execute(update(JOBS).where(JOBS.c.id == lease.id, JOBS.c.step < step).values(step=step))

    def metrics(self, job_id: str, *, after_step: int = -1) -> tuple[Metric, ...]:
        """The numbers of each step beyond `after_step`, ascending."""
        with self._db.read() as connection:
            where = (METRICS.c.job_id == job_id, METRICS.c.step > after_step)
            return tuple(as_row(Metric, row) for row in connection.execute(select(METRICS).where(*where).order_by(METRICS.c.step)))


def lock_job(connection: Connection, by: Lease | str, now: float) -> str:
    """Hold the job's row for this transaction, so that its writers take turns, and prove the lease. Its id."""
    if isinstance(by, str):
        if count(connection, update(JOBS).where(JOBS.c.id == by).values(updated_at=now)) == 0:
            raise NotFound("fine-tuning job", by)
        return by
    if count(connection, update(JOBS).where(*held(JOBS, by)).values(updated_at=now)) == 0:
        raise LeaseLost(f"Worker {by.worker} no longer holds {by.id}")
    return by.id


def insert_events(connection: Connection, job_id: str, events: Sequence[NewEvent], now: float) -> int:
    """The job's row must be held: positions come from it."""
    keys = [event.key for event in events if event.key is not None]
    known: set[str | None] = set()
    for start in range(0, len(keys), 500):  # SQLite takes a limited number of parameters
        some = keys[start : start + 500]
        known.update(connection.execute(select(EVENTS.c.key).where(EVENTS.c.job_id == job_id, EVENTS.c.key.in_(some))).scalars())
    position: int = connection.execute(select(JOBS.c.last_position).where(JOBS.c.id == job_id)).scalar_one()
    rows = []
    for event in events:
        if event.key is not None:
            if event.key in known:
                continue
            known.add(event.key)
        position += 1
        rows.append(_row(job_id, position, event, now))
    if rows:
        connection.execute(insert(EVENTS), rows)
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(last_position=position))
    return len(rows)


def _row(job_id: str, position: int, event: NewEvent, now: float) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "position": position,
        "id": event.id or ids.new(ids.EVENT),
        "created_at": now if event.created_at is None else event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": None if event.data is None else dict(event.data),
        "key": event.key,
    }

"""Who works on a job: claims, leases that run out, and fences that keep a late worker out.

A worker claims the oldest waiting job for some seconds and renews. If it vanishes, `expire` gives the job back to the
queue with its checkpoints. Every change of hands raises the job's `fence`; a worker that comes back late shows an old
number and is refused, even in the middle of a write (see docs/decisions, "leases and fencing").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, case, func, select, update

from pinetune.errors import LeaseLost, MoveRefused
from pinetune.store.database import Database, as_row, count
from pinetune.store.events import insert_events
from pinetune.store.fencing import held, take_oldest
from pinetune.store.jobs import move
from pinetune.store.paging import columns
from pinetune.store.rows import Job, Lease, NewEvent
from pinetune.store.schema import Job as JobTable
from pinetune.store.states import CLAIM, MOVES

JOBS = columns(JobTable)
MAX_ATTEMPTS = 5  # claims in a row that ended without a checkpoint: the job kills its workers


class Leases:
    """Claims on fine-tuning jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def claim(self, worker: str, seconds: float, states: Sequence[str] = ("validating_files", "queued")) -> tuple[Job, Lease] | None:
        """Take the oldest job that waits in one of `states`; None when there is none. No two workers get the same.

        A queued job starts running; one in `validating_files` stays there until `jobs.validated` or `jobs.fail`.
        """
        now = self._db.now()
        values = {"status": case(CLAIM, value=JOBS.c.status, else_=JOBS.c.status), "updated_at": now}
        with self._db.write() as connection:
            row = take_oldest(connection, JOBS, [JOBS.c.status.in_(list(states))], worker, now + seconds, values)
            if row is None:
                return None
            if row.status == "running":
                first = row.started_at is None
                started = func.coalesce(JOBS.c.started_at, now)
                row = connection.execute(update(JOBS).where(JOBS.c.id == row.id).values(started_at=started).returning(JOBS)).one()
                message = "Fine-tuning job started" if first else f"Fine-tuning job goes on (steps done: {row.step})"
                insert_events(connection, row.id, [NewEvent(message)], now)
            return as_row(Job, row), Lease(row.id, worker, row.fence)

    def renew(self, lease: Lease, seconds: float) -> bool:
        """Hold the job for `seconds` from now. False: it is no longer this worker's (taken over, cancelled); stop working."""
        with self._db.write() as connection:
            return count(connection, update(JOBS).where(*held(JOBS, lease)).values(lease_until=self._db.now() + seconds)) == 1

    def expire(self, max_attempts: int = MAX_ATTEMPTS) -> list[str]:
        """Give the jobs of vanished workers back to the queue; their ids. Any worker or server may call it, at any time.

        A job that lost `max_attempts` workers in a row without a checkpoint between them fails: it would go on for ever.
        """
        now = self._db.now()
        with self._db.read() as connection:
            late = connection.execute(select(JOBS).where(JOBS.c.worker.is_not(None), JOBS.c.lease_until < now).order_by(JOBS.c.seq)).all()
        return [row.id for row in late if self._take_back(row, max_attempts)]

    def abandon(self, worker: str) -> list[str]:
        """Give back what `worker` holds, without waiting for its leases: its process is known to be dead. Their ids."""
        with self._db.write() as connection:
            connection.execute(update(JOBS).where(JOBS.c.worker == worker).values(lease_until=0.0))
        return self.expire()

    def _take_back(self, row: Row[Any], max_attempts: int) -> bool:
        """One job, in one transaction, unless its worker came back or someone else was faster."""
        now = self._db.now()
        lease = Lease(row.id, row.worker, row.fence)
        name, message, values = "lose_validation" if row.status == "validating_files" else "lose", "", {}
        if row.attempts >= max_attempts:
            name, message = (
                "give_up",
                f"{row.attempts} workers in a row stopped while they worked on this job, without reaching a checkpoint",
            )
            values = {"error": {"code": "worker_lost", "message": message, "param": None}}
        try:
            with self._db.write() as connection:
                until = connection.execute(select(JOBS.c.lease_until).where(JOBS.c.id == row.id).with_for_update()).scalar_one()
                if until is None or until >= now:
                    return False
                move(connection, MOVES[name], row.id, now, lease=lease, message=message, values=values)
        except (MoveRefused, LeaseLost):
            return False
        return True

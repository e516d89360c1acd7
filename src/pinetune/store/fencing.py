"""The SQL of leases, for any table of leased work: take the oldest, prove that it is still yours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Table, select, update

from pinetune.store.paging import Conditions
from pinetune.store.rows import Lease


def held(table: Table, lease: Lease) -> Conditions:
    """True of the leased row while `lease` is the newest claim on it, however late: nobody else has it then."""
    return [table.c.id == lease.id, table.c.worker == lease.worker, table.c.fence == lease.fence]


def take_oldest(
    connection: Connection, table: Table, waiting: Conditions, worker: str, until: float, values: Mapping[str, Any]
) -> Row[Any] | None:
    """Lease the oldest row that is `waiting` and free, in one statement; None when there is none.

    SQLite lets one writer in at a time. PostgreSQL locks the chosen row and skips those that others are choosing.
    """
    free = [*waiting, table.c.worker.is_(None)]
    oldest = select(table.c.id).where(*free).order_by(table.c.seq).limit(1).with_for_update(skip_locked=True).scalar_subquery()
    taken = {"worker": worker, "lease_until": until, "fence": table.c.fence + 1, "attempts": table.c.attempts + 1, **values}
    return connection.execute(update(table).where(table.c.id == oldest, *free).values(taken).returning(table)).one_or_none()


def ended(table: Table) -> dict[str, Any]:
    """What to set when a lease ends: the next number, so that the late holder is refused."""
    return {"worker": None, "lease_until": None, "fence": table.c.fence + 1}

"""Webhooks: who wants to hear what, and the outbox, filled in the transaction of what it tells and sent at least once."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, and_, insert, select, update

from pinetune.errors import NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row, count
from pinetune.store.paging import Conditions, columns
from pinetune.store.rows import Delivery, WebhookEndpoint
from pinetune.store.schema import Delivery as DeliveryTable
from pinetune.store.schema import WebhookEndpoint as EndpointTable

ENDPOINTS, DELIVERIES = columns(EndpointTable), columns(DeliveryTable)
TYPES = tuple(f"fine_tuning.job.{s}" for s in ("succeeded", "failed", "cancelled")) + tuple(
    f"eval.run.{s}" for s in ("succeeded", "failed", "canceled")
)
RETRY_SECONDS = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)  # after that many failures it is given up


class Webhooks:
    """Endpoints of a project, and the deliveries that wait."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, project: str, url: str, types: Sequence[str] = ()) -> WebhookEndpoint:
        """`types` empty = all of TYPES. The secret is Standard Webhooks' form, `whsec_` + base64 of 24 bytes."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        row = {
            "id": ids.new(ids.WEBHOOK),
            "created_at": self._db.now(),
            "project": project,
            "url": url,
            "secret": secret,
            "types": list(types),
        }
        with self._db.write() as connection:
            stored = connection.execute(insert(ENDPOINTS).values(row).returning(ENDPOINTS)).one()
            return as_row(WebhookEndpoint, stored)

    def list(self, project: str | None = None) -> tuple[WebhookEndpoint, ...]:
        with self._db.read() as connection:
            return _endpoints(connection, project)

    def get(self, id: str) -> WebhookEndpoint:
        with self._db.read() as connection:
            row = connection.execute(select(ENDPOINTS).where(ENDPOINTS.c.id == id, ENDPOINTS.c.deleted_at.is_(None))).one_or_none()
        if row is None:
            raise NotFound("webhook endpoint", id)
        return as_row(WebhookEndpoint, row)

    def remove(self, id: str, project: str | None = None) -> None:
        """What still waits for the endpoint is not sent any more."""
        where = [ENDPOINTS.c.id == id, ENDPOINTS.c.deleted_at.is_(None)]
        if project is not None:
            where.append(ENDPOINTS.c.project == project)
        with self._db.write() as connection:
            if count(connection, update(ENDPOINTS).where(*where).values(deleted_at=self._db.now(), secret="")) == 0:
                raise NotFound("webhook endpoint", id)
            connection.execute(update(DELIVERIES).where(DELIVERIES.c.endpoint_id == id).values(next_at=None))

    def claim(self, hold_seconds: float = 60.0) -> tuple[Delivery, WebhookEndpoint] | None:
        """Take the delivery that is due longest; no other sender gets it for `hold_seconds`. None when nothing is due."""
        now = self._db.now()
        due = and_(DELIVERIES.c.next_at.is_not(None), DELIVERIES.c.next_at <= now)
        order = (DELIVERIES.c.next_at, DELIVERIES.c.seq)
        first = select(DELIVERIES.c.seq).where(due).order_by(*order).limit(1).with_for_update(skip_locked=True).scalar_subquery()
        with self._db.write() as connection:
            held = {"next_at": now + hold_seconds, "attempts": DELIVERIES.c.attempts + 1}
            row = connection.execute(
                update(DELIVERIES).where(DELIVERIES.c.seq == first, due).values(held).returning(DELIVERIES)
            ).one_or_none()
            if row is None:
                return None
            endpoint = connection.execute(select(ENDPOINTS).where(ENDPOINTS.c.id == row.endpoint_id)).one()
            return as_row(Delivery, row), as_row(WebhookEndpoint, endpoint)

    def delivered(self, delivery: Delivery) -> None:
        self._settle(delivery, next_at=None, delivered_at=self._db.now(), last_error=None)

    def failed(self, delivery: Delivery, error: str) -> None:
        """Try again later, with growing pauses; after the last one it is given up."""
        last = delivery.attempts > len(RETRY_SECONDS)
        next_at = None if last else self._db.now() + RETRY_SECONDS[delivery.attempts - 1]
        self._settle(delivery, next_at=next_at, last_error=error)

    def deliveries(self, endpoint_id: str, limit: int = 50) -> tuple[Delivery, ...]:
        """Newest first."""
        with self._db.read() as connection:
            where = DELIVERIES.c.endpoint_id == endpoint_id
            rows = connection.execute(select(DELIVERIES).where(where).order_by(DELIVERIES.c.seq.desc()).limit(limit))
            return tuple(as_row(Delivery, row) for row in rows)

    def _settle(self, delivery: Delivery, **values: object) -> None:
        with self._db.write() as connection:
            where = (DELIVERIES.c.id == delivery.id, DELIVERIES.c.attempts == delivery.attempts)
            connection.execute(update(DELIVERIES).where(*where).values(values))


def enqueue(connection: Connection, project: str, type: str, object_id: str, now: float) -> None:
    """Put the event into the outbox of each endpoint that wants it, within the caller's transaction."""
    for endpoint in _endpoints(connection, project):
        if endpoint.types and type not in endpoint.types:
            continue
        id = ids.new(ids.WEBHOOK_EVENT)
        payload = {"id": id, "object": "event", "type": type, "created_at": int(now), "data": {"id": object_id}}
        row = {"id": id, "created_at": now, "endpoint_id": endpoint.id, "type": type, "payload": payload, "next_at": now}
        connection.execute(insert(DELIVERIES).values(row))


def _endpoints(connection: Connection, project: str | None) -> tuple[WebhookEndpoint, ...]:
    where: Conditions = [ENDPOINTS.c.deleted_at.is_(None)]
    if project is not None:
        where.append(ENDPOINTS.c.project == project)
    return tuple(as_row(WebhookEndpoint, row) for row in connection.execute(select(ENDPOINTS).where(*where).order_by(ENDPOINTS.c.seq)))

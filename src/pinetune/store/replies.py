"""Chat completions and responses kept with `store: true`: read again, continued from, and graded by evals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from pinetune.errors import NotFound
from pinetune.store.database import Database, as_row, count
from pinetune.store.paging import Conditions, Order, columns, has_metadata, page
from pinetune.store.rows import Page, Reply
from pinetune.store.schema import Reply as ReplyTable

REPLIES = columns(ReplyTable)
ANY: Mapping[str, str] = {}


class Replies:
    """`kind` is "chat.completion" or "response"."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        project: str,
        kind: str,
        body: Mapping[str, Any],
        *,
        input: Sequence[Any],
        request: Mapping[str, Any],
        metadata: Mapping[str, str] | None = None,
        previous_id: str | None = None,
    ) -> Reply:
        """Keep `body`, the whole reply as sent; its `id`, `model` and `status` become the row's."""
        row = {
            "id": body["id"], "created_at": self._db.now(), "project": project, "kind": kind, "model": body["model"],
            "status": body.get("status"), "metadata": None if metadata is None else dict(metadata), "previous_id": previous_id,
            "input": list(input), "request": dict(request), "body": dict(body),
        }  # fmt: skip
        with self._db.write() as connection:
            return as_row(Reply, connection.execute(insert(REPLIES).values(row).returning(REPLIES)).one())

    def get(self, id: str, project: str | None = None, kind: str | None = None) -> Reply:
        """Raises NotFound, also for another project's."""
        where = [REPLIES.c.id == id, *_scope(project, kind), REPLIES.c.deleted_at.is_(None)]
        with self._db.read() as connection:
            row = connection.execute(select(REPLIES).where(*where)).one_or_none()
        if row is None:
            raise NotFound(_noun(kind), id)
        return as_row(Reply, row)

    def update(self, id: str, project: str | None, *, body: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Reply:
        """A background response that went on, or new metadata."""
        values = {"body": dict(body), "status": body.get("status"), "metadata": None if metadata is None else dict(metadata)}
        with self._db.write() as connection:
            where = [REPLIES.c.id == id, *_scope(project, None), REPLIES.c.deleted_at.is_(None)]
            row = connection.execute(update(REPLIES).where(*where).values(values).returning(REPLIES)).one_or_none()
        if row is None:
            raise NotFound("reply", id)
        return as_row(Reply, row)

    def list(
        self,
        project: str | None,
        kind: str,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = ANY,
        created_after: float | None = None,
        created_before: float | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> Page[Reply]:
        """`created_after` and `created_before` are exclusive; `metadata` None asks for those without any."""
        with self._db.read() as connection:
            filters = [REPLIES.c.deleted_at.is_(None), *has_metadata(connection, REPLIES.c.metadata, metadata)]
            if model is not None:
                filters.append(REPLIES.c.model == model)
            if created_after is not None:
                filters.append(REPLIES.c.created_at > created_after)
            if created_before is not None:
                filters.append(REPLIES.c.created_at < created_before)
            scope = _scope(project, kind)
            return page(connection, REPLIES, Reply, scope=scope, filters=filters, after=after, limit=limit, order=order)

    def chain(self, id: str, project: str | None = None, limit: int = 200) -> tuple[Reply, ...]:
        """The responses a conversation consists of, oldest first, `id` last. Raises NotFound where a link is missing."""
        links: list[Reply] = []
        at: str | None = id
        while at is not None and len(links) < limit:
            links.append(self.get(at, project, "response"))
            at = links[-1].previous_id
        return tuple(reversed(links))

    def delete(self, id: str, project: str | None = None, kind: str | None = None) -> None:
        """Its words are gone; its place in lists stays, so that a script may delete while it pages."""
        where = [REPLIES.c.id == id, *_scope(project, kind), REPLIES.c.deleted_at.is_(None)]
        emptied = {"deleted_at": self._db.now(), "body": {}, "input": [], "request": {}, "metadata": None}
        with self._db.write() as connection:
            if count(connection, update(REPLIES).where(*where).values(emptied)) == 0:
                raise NotFound(_noun(kind), id)


def _scope(project: str | None, kind: str | None) -> Conditions:
    scope: Conditions = []
    if project is not None:
        scope.append(REPLIES.c.project == project)
    if kind is not None:
        scope.append(REPLIES.c.kind == kind)
    return scope


def _noun(kind: str | None) -> str:
    return {"chat.completion": "chat completion", "response": "response"}.get(kind or "", "reply")

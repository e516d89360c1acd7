"""Lists by cursor, as the hosted API pages them: `after` an id, `limit` items, has_more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, exists, func, or_, select
from sqlalchemy.orm import DeclarativeBase

from pinetune.errors import NotFound
from pinetune.store.database import as_row
from pinetune.store.rows import Page

T = TypeVar("T")
Order = Literal["asc", "desc"]
Conditions = list[ColumnElement[bool]]


def columns(table: type[DeclarativeBase]) -> Table:
    found = table.__table__
    assert isinstance(found, Table)
    return found


def page(
    connection: Connection,
    table: Table,
    kind: type[T],
    *,
    scope: Sequence[ColumnElement[bool]] = (),
    filters: Sequence[ColumnElement[bool]] = (),
    after: str | None = None,
    before: str | None = None,
    limit: int = 20,
    order: Order = "desc",
    by: Sequence[str] = ("created_at", "seq"),
) -> Page[T]:
    """`limit` rows of `scope` and `filters`, sorted by the columns `by`.

    `after` and `before` are ids within `scope`; they need not pass the filters (a deleted row still marks its place).
    With `before`, the page is the one that ends just before that row. Raises NotFound for an unknown cursor.
    """
    keys = [table.c[name] for name in by]
    backwards = before is not None
    ascending = (order == "asc") != backwards
    conditions = [*scope, *filters]
    if after is not None:
        conditions.append(_beyond(keys, _place(connection, table, keys, scope, after), order == "asc"))
    if before is not None:
        conditions.append(_beyond(keys, _place(connection, table, keys, scope, before), ascending))
    sort = [key.asc() if ascending else key.desc() for key in keys]
    rows = connection.execute(select(table).where(*conditions).order_by(*sort).limit(limit + 1)).all()
    items = [as_row(kind, row) for row in rows[:limit]]
    return Page(tuple(reversed(items) if backwards else items), has_more=len(rows) > limit)


def has_metadata(connection: Connection, column: ColumnElement[Any], wanted: Mapping[str, str] | None) -> Conditions:
    """Conditions for rows whose metadata hold all of `wanted`; for None, rows without metadata. Keys may hold any character."""
    if wanted is None:
        return [column.is_(None)]
    if connection.dialect.name != "sqlite":
        return [func.json_extract_path_text(column, key) == value for key, value in wanted.items()]
    found: Conditions = []
    for key, value in wanted.items():
        pairs = func.json_each(column).table_valued("key", "value")
        found.append(exists(select(pairs.c.key).where(pairs.c.key == key, pairs.c.value == value)))
    return found


def _place(
    connection: Connection, table: Table, keys: Sequence[ColumnElement[Any]], scope: Sequence[ColumnElement[bool]], id: str
) -> Sequence[Any]:
    row = connection.execute(select(*keys).where(table.c.id == id, *scope)).one_or_none()
    if row is None:
        raise NotFound("cursor", id)
    return tuple(row)


def _beyond(keys: Sequence[ColumnElement[Any]], place: Sequence[Any], ascending: bool) -> ColumnElement[bool]:
    """Lexicographic (k1, k2, ...) > place, or <, spelled out for databases without row comparison."""
    ways = []
    for i, (key, value) in enumerate(zip(keys, place, strict=True)):
        same = [k == v for k, v in zip(keys[:i], place[:i], strict=True)]
        ways.append(and_(*same, key > value if ascending else key < value))
    return or_(*ways)

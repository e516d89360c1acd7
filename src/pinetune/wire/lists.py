"""Lists as the hosted API answers them: with `has_more`, and for some resources with the ids of both ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class ListOf(BaseModel, Generic[T]):
    """A page of a list; the next one starts `after` the id of its last item."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool


class CursorList(ListOf[T], Generic[T]):
    """With both ends named; null where the page is empty."""

    first_id: str | None
    last_id: str | None


def cursor_list(data: Sequence[Any], has_more: bool) -> CursorList[Any]:
    """A page of shown objects, each with an `id`.

    >>> cursor_list([], has_more=False).first_id is None
    True
    """
    return CursorList(data=list(data), has_more=has_more, first_id=data[0].id if data else None, last_id=data[-1].id if data else None)

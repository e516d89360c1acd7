"""Lists by cursor, as the hosted API pages them: `after` an id, `limit` items, has_more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Request

from pinetune.errors import NotFound

Limit = Annotated[int, Query(ge=1, le=100)]
Sorted = Literal["asc", "desc"]
METADATA = re.compile(r"^metadata\[(.+)\]$")


def page_of(items: Sequence[dict[str, Any]], after: str | None, limit: int, order: Sorted) -> dict[str, Any]:
    """One page of items that are all at hand, given oldest first. Raises NotFound for an `after` that is not among them."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        place = next((i for i, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise NotFound("cursor", after)
        ordered = ordered[place + 1 :]
    return listed(ordered[:limit], len(ordered) > limit)


def listed(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": has_more}


def metadata_of(request: Request) -> Mapping[str, str] | None:
    """The query's `metadata[key]=value` pairs."""
    pairs = {found[1]: value for key, value in request.query_params.items() if (found := METADATA.match(key))}
    return pairs or None

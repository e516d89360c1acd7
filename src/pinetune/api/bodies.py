"""JSON bodies, read by hand: limited in size and depth, complained about in OpenAI's words, documented like any other."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from pinetune.api.auth import Who
from pinetune.wire.errors import ApiProblem, from_validation
from pinetune.wire.json_text import parse

Shape = TypeVar("Shape", bound=BaseModel)
MAX_BYTES = 32 << 20  # the largest thing in JSON is a conversation with images or an eval's rows


async def read_limited(request: Request, limit: int = MAX_BYTES) -> bytes:
    """The body. Raises ApiProblem 413 at the first byte beyond `limit`, before reading where the length is told."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    pieces, total = [], 0
    async for piece in request.stream():
        total += len(piece)
        if total > limit:
            raise _too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)


async def _object(request: Request, who: Who) -> dict[str, Any]:  # who: the door comes before the body
    data = parse(await read_limited(request))
    if not isinstance(data, dict):
        raise ApiProblem(400, f"The body must be a JSON object, not {_kind(data)}", code="invalid_type")
    return data


Body = Annotated[dict[str, Any], Depends(_object)]


def check(data: dict[str, Any], shape: type[Shape]) -> Shape:
    """Raises ApiProblem 400 whose param is the JSON path of the first fault."""
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise from_validation(error, shape) from None


def _too_large(limit: int) -> ApiProblem:
    return ApiProblem(413, f"The body is larger than {limit:,} bytes, the most that is allowed here", code="body_too_large")


def _kind(data: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(data), type(data).__name__)

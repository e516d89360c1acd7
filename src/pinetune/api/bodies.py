"""JSON bodies, read by hand: limited in size and depth, complained about in OpenAI's words, documented like any other."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from pinetune.api.auth import Who
from pinetune.wire.errors import ApiProblem, from_validation

Shape = TypeVar("Shape", bound=BaseModel)
MAX_BYTES = 32 << 20  # the largest thing in JSON is a conversation with images or an eval's rows
MAX_DEPTH = 100


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


def parse(raw: bytes) -> Any:
    """Raises ApiProblem 400 for what is not JSON, is nested too deeply, or holds text that is not Unicode."""
    if not raw.strip():
        raise ApiProblem(400, "This request needs a JSON body, and it has none", code="missing_body")
    try:
        data = json.loads(raw, parse_constant=_no_constant)
        if b"\\u" in raw:
            json.dumps(data, ensure_ascii=False).encode()  # an escape can write half a surrogate pair, which no reply could repeat
        _check_depth(data)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ApiProblem(400, f"We could not parse the JSON body of your request: {reason}", code="invalid_json") from None
    return data


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


def describe(shape: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is a `shape`."""
    schema = shape.model_json_schema()
    named = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(named[node["$ref"].rsplit("/", 1)[1]])
        return {key: inline(value) for key, value in node.items() if key != "discriminator"}

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline(schema)}}}}


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level if isinstance(node, dict | list) for inner in (node.values() if isinstance(node, dict) else node)]
        if not level:
            return
    raise RecursionError


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _too_large(limit: int) -> ApiProblem:
    return ApiProblem(413, f"The body is larger than {limit:,} bytes, the most that is allowed here", code="body_too_large")


def _kind(data: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(data), type(data).__name__)

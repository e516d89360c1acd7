"""What models answer: passed on to the serving process, which checks the bodies, with the caller's project.

The document describes bodies and parameters as the serving process checks them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from pinetune.api.auth import Who
from pinetune.api.bodies import read_limited
from pinetune.api.context import Here
from pinetune.wire.chat import ChatRequest, StoredUpdate
from pinetune.wire.document import METADATA, describe, query_parameter
from pinetune.wire.embeddings import EmbeddingRequest
from pinetune.wire.responses import InputTokensRequest, ResponseRequest

routes = APIRouter()


TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def _paged(order: str, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Query parameters of a list: name -> schema."""
    limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
    return {**more, "after": {"type": "string"}, "limit": limit, "order": {"enum": ["asc", "desc"], "default": order}}


@dataclass(frozen=True, slots=True)
class Passed:
    """`path` is below /v1; the ids in it hold no slashes."""

    method: str
    path: str
    tag: str
    body: type[BaseModel] | None = None
    query: dict[str, dict[str, Any]] = field(default_factory=dict)


# Taken and without effect: a stored response is not streamed again, and all of it is shown.
UNUSED: dict[str, dict[str, Any]] = {"include": TEXTS, "starting_after": {"type": "integer"}, "include_obfuscation": {"type": "boolean"}}
STORED = "/chat/completions/{completion_id}"
RESPONSE = "/responses/{response_id}"
PASSED = (
    Passed("POST", "/chat/completions", "chat", ChatRequest),
    Passed("GET", "/chat/completions", "chat", query=_paged("asc", model={"type": "string"}, metadata=METADATA)),
    Passed("GET", STORED, "chat"),
    Passed("POST", STORED, "chat", StoredUpdate),
    Passed("DELETE", STORED, "chat"),
    Passed("GET", f"{STORED}/messages", "chat", query=_paged("asc")),
    Passed("POST", "/responses", "responses", ResponseRequest),
    Passed("POST", "/responses/input_tokens", "responses", InputTokensRequest),
    Passed("GET", RESPONSE, "responses", query={"stream": {"enum": [False], "default": False}, **UNUSED}),
    Passed("DELETE", RESPONSE, "responses"),
    Passed("POST", f"{RESPONSE}/cancel", "responses"),
    Passed("GET", f"{RESPONSE}/input_items", "responses", query=_paged("desc", include=TEXTS)),
    Passed("POST", "/embeddings", "embeddings", EmbeddingRequest),
)


async def _pass_on(request: Request, here: Here, who: Who) -> Response:
    """As OpenAI's reference describes it."""
    path = request.scope["path"].removeprefix("/v1")
    return here.serving.forward(request, path, await read_limited(request), who.project)


def _add(route: Passed) -> None:
    words = "_".join(part.strip("{}") for part in route.path.strip("/").split("/"))
    more = {} if route.body is None else describe(route.body)
    if route.query:
        more["parameters"] = [query_parameter(name, schema) for name, schema in route.query.items()]
    name = f"{route.method.lower()}_{words}"
    routes.add_api_route(
        route.path, _pass_on, methods=[route.method], operation_id=name, tags=[route.tag], openapi_extra=more, response_class=Response
    )


for _route in PASSED:
    _add(_route)

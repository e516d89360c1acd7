"""What models answer: passed on to the serving process, which checks the bodies, with the caller's project."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from pinetune.api.auth import Who
from pinetune.api.bodies import read_limited
from pinetune.api.context import Here

routes = APIRouter()
# path, methods, tag. The ids in these paths hold no slashes.
PASSED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("/chat/completions", ("GET", "POST"), "chat"),
    ("/chat/completions/{completion_id}", ("GET", "POST", "DELETE"), "chat"),
    ("/chat/completions/{completion_id}/messages", ("GET",), "chat"),
    ("/responses", ("POST",), "responses"),
    ("/responses/input_tokens", ("POST",), "responses"),
    ("/responses/{response_id}", ("GET", "DELETE"), "responses"),
    ("/responses/{response_id}/cancel", ("POST",), "responses"),
    ("/responses/{response_id}/input_items", ("GET",), "responses"),
    ("/embeddings", ("POST",), "embeddings"),
)
ANY_OBJECT: dict[str, Any] = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}


async def _pass_on(request: Request, here: Here, who: Who) -> Response:
    """As OpenAI's reference describes it; bodies are checked by the serving process."""
    path = request.scope["path"].removeprefix("/v1")
    return here.serving.forward(request, path, await read_limited(request), who.project)


def _add(path: str, method: str, tag: str) -> None:
    words = "_".join(part.strip("{}") for part in path.strip("/").split("/"))
    more = ANY_OBJECT if method == "POST" and not path.endswith("cancel") else None
    name = f"{method.lower()}_{words}"
    routes.add_api_route(path, _pass_on, methods=[method], operation_id=name, tags=[tag], openapi_extra=more, response_class=Response)


for _path, _methods, _tag in PASSED:
    for _method in _methods:
        _add(_path, _method, _tag)

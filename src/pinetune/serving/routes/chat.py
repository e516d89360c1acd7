"""/chat/completions: create, and what was stored: list, retrieve, change metadata, delete, messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pinetune.evals.answer_rules import Rule
from pinetune.serving.chat import Reply, to_turn
from pinetune.serving.directory import Kept, ServedModel
from pinetune.serving.http import begun, data_line, project_of, read_body, unless_gone
from pinetune.serving.paging import Limit, Sorted, listed, metadata_of, page_of
from pinetune.serving.service import Service
from pinetune.serving.several import ask_several, check
from pinetune.serving.turn import Turn
from pinetune.wire.chat import ChatRequest, StoredUpdate
from pinetune.wire.document import describe
from pinetune.wire.errors import ApiProblem


def add(routes: APIRouter, service: Service) -> None:
    @routes.post("/chat/completions", openapi_extra=describe(ChatRequest), tags=["chat"], response_model=None)
    async def create_chat_completion(request: Request) -> Response:
        """A model's answer to a conversation, whole or streamed."""
        body, project = await read_body(request, ChatRequest), project_of(request)
        turn = to_turn(body)
        rule = None if body.pinetune is None else check(body.pinetune, turn, stream=bool(body.stream))
        served = await service.model(body.model, project)
        if body.stream:
            return await begun(request, _lines(service, body, turn, served, project))
        return JSONResponse(await unless_gone(request, lambda: _whole(service, body, turn, served, project, rule)))

    @routes.get("/chat/completions", tags=["chat"])
    async def list_chat_completions(
        request: Request, model: str | None = None, after: str | None = None, limit: Limit = 20, order: Sorted = "asc"
    ) -> dict[str, Any]:
        """Stored completions."""
        wanted = metadata_of(request)
        page = await service.recall_page(
            project_of(request), "chat.completion", model=model, metadata=wanted, after=after, limit=limit, order=order
        )
        return listed([_shown(kept) for kept in page.items], page.has_more)

    @routes.get("/chat/completions/{completion_id}", tags=["chat"])
    async def get_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
        """A stored completion."""
        return _shown(await service.recall("chat.completion", completion_id, project_of(request)))

    @routes.post("/chat/completions/{completion_id}", openapi_extra=describe(StoredUpdate), tags=["chat"])
    async def update_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
        """Replace the metadata of a stored completion."""
        body, project = await read_body(request, StoredUpdate), project_of(request)
        kept = await service.recall("chat.completion", completion_id, project)
        changed = replace(kept, metadata=body.metadata, body={**kept.body, "metadata": body.metadata or {}})
        await service.remember(changed, project)
        return _shown(changed)

    @routes.delete("/chat/completions/{completion_id}", tags=["chat"])
    async def delete_chat_completion(request: Request, completion_id: str) -> dict[str, Any]:
        """Delete a stored completion."""
        await service.forget("chat.completion", completion_id, project_of(request))
        return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}

    @routes.get("/chat/completions/{completion_id}/messages", tags=["chat"])
    async def get_chat_completion_messages(
        request: Request, completion_id: str, after: str | None = None, limit: Limit = 20, order: Sorted = "asc"
    ) -> dict[str, Any]:
        """The messages a stored completion answered."""
        kept = await service.recall("chat.completion", completion_id, project_of(request))
        return page_of([_stored_message(kept, place) for place in range(len(kept.input))], after, limit, order)


async def _whole(service: Service, body: ChatRequest, turn: Turn, served: ServedModel, project: str, rule: Rule | None) -> dict[str, Any]:
    if body.pinetune is not None and rule is not None:
        reply = Reply.of_picked(body, turn, served, await ask_several(service, body.pinetune, rule, turn, served))
    else:
        async with service.answer(served, turn) as (shown, events):
            reply = Reply(body, turn, served, shown)
            async for event in events:
                reply.take(event)
    if body.store:
        await service.remember(reply.kept(), project)
    return reply.completion().model_dump(exclude_unset=True)


async def _lines(service: Service, body: ChatRequest, turn: Turn, served: ServedModel, project: str) -> AsyncGenerator[str]:
    async with service.answer(served, turn) as (shown, events):
        reply = Reply(body, turn, served, shown)
        try:
            async for event in events:
                for chunk in reply.take(event):
                    yield data_line(chunk)
        except ApiProblem as problem:
            if not reply.prompt_tokens:
                raise  # nothing was sent yet: the status can still say it
            yield data_line(problem.body())
            return
    for chunk in reply.last_chunks():
        yield data_line(chunk)
    if body.store:
        await service.remember(reply.kept(), project)
    yield "data: [DONE]\n\n"


def _shown(kept: Kept) -> dict[str, Any]:
    return {**kept.body, "metadata": dict(kept.metadata or {})}


def _stored_message(kept: Kept, place: int) -> dict[str, Any]:
    message = kept.input[place]
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    text = "".join(part.get("text") or "" for part in parts) if parts is not None else content
    return {**message, "id": f"{kept.id}-{place}", "content": text, "content_parts": parts}

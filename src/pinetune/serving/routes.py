"""The routes of serving, to be mounted below /v1: chat completions, responses, models, embeddings.

Whoever mounts them turns ApiProblem into its envelope and sets `request.state.project` where there are projects.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pinetune.serving.chat import Reply, answer_messages, to_turn
from pinetune.serving.http import EventStream, data_line, describe, pinged, read_body, unless_gone
from pinetune.serving.service import Service
from pinetune.wire.chat import ChatRequest
from pinetune.wire.errors import ApiProblem


def router(service: Service) -> APIRouter:
    """All routes of serving, without a prefix."""
    routes = APIRouter()
    _chat(routes, service)
    return routes


def project_of(request: Request) -> str:
    return str(getattr(request.state, "project", "") or "")


def _chat(routes: APIRouter, service: Service) -> None:
    @routes.post("/chat/completions", openapi_extra=describe(ChatRequest), tags=["chat"])
    async def create_chat_completion(request: Request) -> Response:
        """A model's answer to a conversation."""
        body = await read_body(request, ChatRequest)
        turn, project = to_turn(body), project_of(request)
        served = service.model(body.model, project)

        async def whole() -> dict[str, Any]:
            async with service.answer(served, turn) as (shown, events):
                reply = Reply(body, turn, served, shown)
                async for event in events:
                    reply.take(event)
                return keep(reply)

        async def lines() -> AsyncGenerator[str]:
            async with service.answer(served, turn) as (shown, events):
                reply = Reply(body, turn, served, shown)
                try:
                    async for chunk in reply.chunks(events):
                        yield data_line(chunk)
                except ApiProblem as problem:
                    if not reply.prompt_tokens:
                        raise  # nothing was sent yet: the status can still say it
                    yield data_line(problem.body())
                    return
                keep(reply)
                yield "data: [DONE]\n\n"

        def keep(reply: Reply) -> dict[str, Any]:
            done = reply.completion().model_dump(exclude_unset=True)
            if body.store:
                record = {"id": reply.id, "created": reply.created, "reply": done, "input": answer_messages(body)}
                service.memory.save("chat.completion", record, project)
            return done

        if not body.stream:
            return JSONResponse(await unless_gone(request, whole))
        return await begun(request, lines())


async def begun(request: Request, texts: AsyncGenerator[str]) -> EventStream:
    """A stream whose first line is there already: what fails before it becomes a plain error."""
    first = await unless_gone(request, lambda: anext(texts))

    async def all_of_it() -> AsyncGenerator[str]:
        yield first
        async for text in pinged(texts):
            yield text

    return EventStream(all_of_it())

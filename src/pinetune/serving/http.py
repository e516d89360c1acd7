"""Between FastAPI and the service: bodies checked by hand for OpenAI's complaints, event streams, callers who hang up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from pinetune.wire.errors import ApiProblem, from_validation
from pinetune.wire.json_text import parse

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
PING_SECONDS = 15.0  # a comment line so often keeps proxies from closing a stream that waits for its model
GONE = 499  # nginx's number for a caller who hung up; nobody reads it


async def read_body(request: Request, shape: type[Body]) -> Body:
    """The JSON body as `shape`. Raises ApiProblem 400."""
    data = parse(await request.body())
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise from_validation(error, shape) from error


async def unless_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`; stop it when the caller hangs up. Raises ApiProblem 499 then."""
    result: list[T] = []
    failure: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await _disconnected(request.receive)
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            result.append(await work())
        except Exception as error:
            failure.append(error)  # raised inside, the group would wrap it
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not result:
        raise ApiProblem(GONE, "the client closed the connection", type="client_closed")
    return result[0]


class EventStream(Response):
    """Server-sent events. The generator is closed when it ends and when the caller hangs up."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await _disconnected(receive)
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                with contextlib.suppress(OSError):  # the connection broke while writing
                    await self._send_all(send)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._events.aclose()
            group.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        async for text in self._events:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def project_of(request: Request) -> str:
    """The caller's project, where whoever mounted the routes has set one."""
    return str(getattr(request.state, "project", "") or "")


async def begun(request: Request, texts: AsyncGenerator[str]) -> EventStream:
    """A stream whose first line is there already: what fails before it becomes a plain error."""
    first = await unless_gone(request, lambda: anext(texts))

    async def all_of_it() -> AsyncGenerator[str]:
        yield first
        async for text in pinged(texts):
            yield text

    return EventStream(all_of_it())


async def pinged(texts: AsyncGenerator[str], seconds: float = PING_SECONDS) -> AsyncGenerator[str]:
    """The same texts, with a comment line whenever none came for `seconds`."""
    try:
        while True:
            step = asyncio.ensure_future(anext(texts, None))
            try:
                while not (await asyncio.wait({step}, timeout=seconds))[0]:
                    yield ": waiting\n\n"
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.wait({step})
            text = step.result()
            if text is None:
                return
            yield text
    finally:
        await texts.aclose()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def data_line(payload: Any) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False, separators=(',', ':'))}\n\n"


def event_lines(payload: dict[str, Any]) -> str:
    """A typed event, as the Responses API sends them."""
    return f"event: {payload['type']}\n{data_line(payload)}"

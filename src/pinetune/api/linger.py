"""A reply to a body that is still coming: what is left of it is read and thrown away before the connection closes.

A server that answers early and closes with unread bytes in its buffer makes the system reset the connection, and the reply
that was already sent is lost on its way: the client sees a broken pipe instead of "413, the file is too large". As nginx's
lingering_close does, and with its times.
"""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOTAL_SECONDS = 30.0
SILENT_SECONDS = 5.0  # without a byte
STALLED = 408  # this client sends nothing: it is not waited for again


class Linger:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _brings_a_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        coming, status = True, 0

        async def receive_noted() -> Message:
            nonlocal coming
            message = await receive()
            coming = message["type"] == "http.request" and bool(message.get("more_body"))
            return message

        async def send_patiently(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if not (last and coming and status != STALLED):
                await send(message)
                return
            await send({**message, "more_body": True})
            give_up = time.monotonic() + TOTAL_SECONDS
            while coming and time.monotonic() < give_up:
                try:
                    await asyncio.wait_for(receive_noted(), SILENT_SECONDS)
                except TimeoutError:
                    break
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive_noted, send_patiently)


def _brings_a_body(headers: Headers) -> bool:
    """A client that waits for "100 Continue" sends nothing after an early reply."""
    if headers.get("expect", "").lower() == "100-continue":
        return False
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

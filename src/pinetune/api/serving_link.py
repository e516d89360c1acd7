"""The way to the serving process: requests go through as they are, streams come back as they come.

It is shown `Authorization: Bearer SECRET` (not the user's key) and `x-pinetune-project`. A caller who hangs up, before or
while the reply comes, ends the request there too. Nobody there, or it dies: 503 with Retry-After.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pinetune.api.problems import answer
from pinetune.wire.errors import ApiProblem

log = logging.getLogger("pinetune.api")
PROJECT_HEADER = "x-pinetune-project"
SENT_ON = ("content-type", "accept", "x-client-request-id", "last-event-id")
# What belongs to one connection, or is written anew by `front`.
NOT_BACK = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "date", "server", "x-request-id"})
CONNECT_SECONDS = 60.0  # nobody there is told at once on this machine; a machine busy with hundreds of streams takes its time
ASK_SECONDS = 600.0  # for a question of the server's own
ALONE = "This server runs without its serving process, so no model can be asked"
STARTING = "The models are being started or cannot be reached just now; try again in a moment"
STARTING_SECONDS = 3.0  # what a client is told to wait while serving is started again


class ServingLink:
    """Connections to `url`, opened with the first request. No limit to their number: each stream holds one."""

    def __init__(self, url: str | None, secret: str | None) -> None:
        self._secret = secret
        self._client: httpx.AsyncClient | None = None
        self._url = url

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The server's own question, from a thread; no project, so every model may answer. Raises ApiProblem."""
        if self._url is None:
            raise ApiProblem(503, ALONE, code="serving_unavailable")
        headers = {} if self._secret is None else {"authorization": f"Bearer {self._secret}"}
        try:
            reply = httpx.post(f"{self._url}/v1{path}", json=body, headers=headers, timeout=ASK_SECONDS, trust_env=False)
            found: dict[str, Any] = reply.json()
        except (httpx.TransportError, ValueError) as error:
            log.warning("serving does not answer: %r", error)
            raise ApiProblem(503, STARTING, code="serving_unavailable", retry_after=STARTING_SECONDS) from None
        if not reply.is_success:
            raise ApiProblem(reply.status_code, str((found.get("error") or {}).get("message", "")))
        return found

    def forward(self, request: Request, path: str, body: bytes, project: str) -> Response:
        """The reply to `request` from there. `path` is below /v1."""
        if self._url is None:
            raise ApiProblem(503, ALONE, code="serving_unavailable")
        if self._client is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30)
            timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # a long answer may be silent for minutes
            self._client = httpx.AsyncClient(base_url=self._url, limits=limits, timeout=timeout, trust_env=False)
        headers = {name: request.headers[name] for name in SENT_ON if name in request.headers}
        headers |= {PROJECT_HEADER: project, "accept-encoding": "identity", "x-request-id": request.state.request_id}
        if self._secret is not None:
            headers["authorization"] = f"Bearer {self._secret}"
        try:
            url = httpx.URL(path=f"/v1{path}", query=request.url.query.encode())
        except httpx.InvalidURL:
            raise ApiProblem(404, "No id holds such characters", code="unknown_url") from None
        return _Passed(self._client, self._client.build_request(request.method, url, headers=headers, content=body))


class _Passed(Response):
    """A reply that is asked for when it is sent, so that one watch sees the caller leave at any time."""

    def __init__(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        super().__init__()
        self._client, self._request = client, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await self._pass(scope, receive, send)
            group.cancel_scope.cancel()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._client.send(self._request, stream=True)
        except httpx.TransportError as error:
            log.warning("serving does not answer: %r", error)
            problem = ApiProblem(503, STARTING, code="serving_unavailable", retry_after=STARTING_SECONDS)
            await answer(problem)(scope, receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": reply.status_code, "headers": _back(reply.headers)})
            async for piece in reply.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            with anyio.CancelScope(shield=True):
                await reply.aclose()  # closes the connection where the reply has not ended: serving sees it and stops


def _back(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if name.lower() not in NOT_BACK]

"""Around every request: an id, a log line, a count, the headers clients look for, and an answer to what nobody foresaw."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pinetune.api.metrics import Metrics
from pinetune.api.problems import server_error

log = logging.getLogger("pinetune.api")
OPENAI_VERSION = "2020-10-01"  # the header every reply of the hosted API carries
CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")
GONE = 499  # nginx's number for a caller who hung up


METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Front:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics, organization: str) -> None:
        self._app, self._metrics, self._organization = app, metrics, organization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = f"req_{secrets.token_hex(16)}"
        start, status = time.perf_counter(), 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-version"] = OPENAI_VERSION
                headers["openai-organization"] = self._organization
                headers["openai-processing-ms"] = str(round((time.perf_counter() - start) * 1000))
                for name, value in state.get("headers", {}).items():
                    headers[name] = value
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            status = status or GONE
        except Exception as error:
            log.error("unforeseen: %s", error, exc_info=error, extra={"request": {"request_id": request_id}})
            if status:
                raise  # the reply has begun: only a broken connection can say so now
            await server_error(request_id)(scope, receive, send_marked)
        finally:
            self._note(scope, status or GONE, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.request(scope["method"] if scope["method"] in METHODS else "other", _pattern(scope), status, seconds)
        given = dict(scope["headers"]).get(b"x-client-request-id", b"").decode("latin-1")
        fields: dict[str, Any] = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "project": scope["state"].get("project", ""),
            "client": (scope.get("client") or ("",))[0],
        }
        if CLIENT_ID.fullmatch(given):
            fields["client_request_id"] = given
        log.info("%s %s %s", scope["method"], scope["path"], status, extra={"request": fields})


def _pattern(scope: Scope) -> str:
    """The route's path with its parameters' names; FastAPI leaves the prefix that it was mounted under out."""
    path: str = getattr(scope.get("route"), "path", "")
    if not path:
        return "unknown"
    return f"/v1{path}" if scope["path"].startswith("/v1/") and not path.startswith("/v1/") else path

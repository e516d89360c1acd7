"""The serving process of `pinetune serve`: the routes on the store, for the API's own connections only."""

from __future__ import annotations

import hmac
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pinetune.serving.app import create
from pinetune.serving.stored import StoredModels, StoredReplies
from pinetune.store import Store
from pinetune.wire.errors import ApiProblem

PROJECT_HEADER = "x-pinetune-project"


def create_process_app(store: Store, secret: str, rerankers: Path | None = None) -> FastAPI:
    """The application. Requests show `Authorization: Bearer SECRET` and name their project; the keys were checked before."""
    app = create(StoredModels(store), StoredReplies(store), rerankers=rerankers)
    app.add_middleware(KnowTheCaller, secret=secret)
    return app


class KnowTheCaller:
    """Plain ASGI: streams and hung-up callers pass through untouched."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not hmac.compare_digest(headers.get("authorization", "").encode(), self._expected):
            refusal = ApiProblem(401, "Only the API may ask here")
            return await JSONResponse(refusal.body(), status_code=401)(scope, receive, send)
        scope.setdefault("state", {})["project"] = headers.get(PROJECT_HEADER, "")
        await self._app(scope, receive, send)

"""For those who run the service: is it up, and its numbers. Not below /v1."""

from __future__ import annotations

from typing import Any

import anyio
from fastapi import APIRouter, Request, Response

from pinetune import __version__
from pinetune.api.auth import Who
from pinetune.api.context import Here
from pinetune.api.metrics import Metrics

routes = APIRouter(tags=["service"])


@routes.get("/healthz", operation_id="health")
def health(here: Here) -> dict[str, Any]:
    """200 while the store answers; 503 in OpenAI's envelope otherwise. Needs no key."""
    here.store.jobs.counts()
    return {"status": "ok", "version": __version__}


@routes.get("/metrics", operation_id="metrics", response_class=Response)
async def metrics(request: Request, who: Who) -> Response:
    """Prometheus' text format. Needs a key where the API does."""
    found: Metrics = request.app.state.metrics
    return Response(await anyio.to_thread.run_sync(found.text), media_type="text/plain; version=0.0.4; charset=utf-8")

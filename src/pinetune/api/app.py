"""The application: everything put together. `create_app` is all that the programs around it need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

from pinetune import __version__
from pinetune.api import document, problems
from pinetune.api.auth import Doorkeeper, check_safe
from pinetune.api.chores import run_chores
from pinetune.api.context import Context
from pinetune.api.front import Front
from pinetune.api.limits import Buckets
from pinetune.api.linger import Linger
from pinetune.api.metrics import Metrics
from pinetune.api.routes import service
from pinetune.api.routes.table import TABLE
from pinetune.api.serving_link import ServingLink
from pinetune.models.names import MINIATURE
from pinetune.settings import Settings
from pinetune.store import Store


def create_app(settings: Settings, store: Store, serving_url: str | None = None, *, serving_secret: str | None = None) -> FastAPI:
    """The API over an open store, which stays the caller's to close.

    `serving_url`: where the serving process answers (`http://127.0.0.1:PORT`); None = models cannot be asked, which is a
    503. `serving_secret` is shown to it as a bearer token, so that others on this machine cannot go around the keys.
    Raises UserError where others can reach the server and there is no key.
    """
    check_safe(settings, store)
    store.models.register(MINIATURE, MINIATURE)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(run_chores, store)
            yield
            group.cancel_scope.cancel()
        await link.close()
        context.close()

    link = ServingLink(serving_url, serving_secret)
    context = Context(settings, store, Buckets(settings.rate_limit), link)
    app = FastAPI(
        title="Pinetune",
        version=__version__,
        description="Reinforcement fine-tuning on your own machines, spoken in OpenAI's API.",
        docs_url=None,  # they load scripts from the net
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    metrics = Metrics(store)
    app.state.context = context
    app.state.doorkeeper = Doorkeeper(settings, store)
    app.state.metrics = metrics
    problems.install(app)
    document.install(app)
    app.add_middleware(Linger)
    app.add_middleware(Front, metrics=metrics, organization=settings.organization)
    app.include_router(service.routes)
    for routes in TABLE:
        app.include_router(routes, prefix="/v1")
    return app

"""Serving alone as a small application: for tests, and for asking a model over HTTP without the rest of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pinetune.errors import PinetuneError
from pinetune.models.names import MINIATURE, find_model
from pinetune.serving.directory import Memory, ModelDirectory, ServedModel
from pinetune.serving.routes import router
from pinetune.serving.service import Service
from pinetune.wire.errors import ApiProblem
from pinetune.wire.problems import as_problem, bad_parameter, no_route


class FolderDirectory:
    """Models known by name: a fixed list, and the bundled miniature. See directory.ModelDirectory."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        self._models = {model.id: model for model in [ServedModel(MINIATURE, find_model(MINIATURE)), *models]}

    def resolve(self, model_id: str, project: str = "") -> ServedModel | None:
        return self._models.get(model_id)

    def list(self, project: str = "") -> Sequence[ServedModel]:
        return list(self._models.values())

    def delete(self, model_id: str, project: str = "") -> bool:
        if model_id == MINIATURE:
            raise ApiProblem(
                403, f"{MINIATURE} is part of the installation and cannot be deleted", code="model_not_deletable", param="model"
            )
        return self._models.pop(model_id, None) is not None


def create(directory: ModelDirectory, memory: Memory | None = None, **options: Any) -> FastAPI:
    """The application; `options` as for service.Service. Its engine stops when the application does."""
    service = Service(directory, memory, **options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Pinetune serving", lifespan=lifespan)
    app.state.service = service
    app.include_router(router(service), prefix="/v1")
    app.add_exception_handler(PinetuneError, _ours)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _unforeseen)
    return app


async def _ours(_: Request, error: Exception) -> JSONResponse:
    return _answer(as_problem(error))


async def _bad_parameter(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(bad_parameter(error.errors()[0]))


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    response = _answer(no_route(error.status_code, request.method, request.url.path, str(error.detail), error.headers))
    response.headers.update(error.headers or {})
    return response


async def _unforeseen(request: Request, _: Exception) -> JSONResponse:
    """The server that runs this logs the traceback; the API's id of the request says where to look."""
    id = request.headers.get("x-request-id", "")
    return _answer(ApiProblem(500, f"The server had an error while processing your request. It is in the server's log, near {id}"))


def _answer(problem: ApiProblem) -> JSONResponse:
    return JSONResponse(problem.body(), status_code=problem.status, headers=problem.headers())

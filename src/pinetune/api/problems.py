"""Every error that can leave a route, as OpenAI's envelope with the right status and headers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pinetune.errors import PinetuneError
from pinetune.wire.errors import ApiProblem
from pinetune.wire.problems import as_problem, bad_parameter, no_route

log = logging.getLogger("pinetune.api")


def answer(problem: ApiProblem) -> JSONResponse:
    headers = problem.headers()
    if problem.code in ("insufficient_quota", "storage_full"):  # clients would try these statuses again by themselves
        headers["x-should-retry"] = "false"
    if problem.status in (408, 413):  # the rest of the body is still to come, and nobody will read it
        headers["Connection"] = "close"
    return JSONResponse(problem.body(), status_code=problem.status, headers=headers)


def server_error(request_id: str) -> JSONResponse:
    """What was not foreseen. The traceback is in the log under this id, and only there."""
    text = f"The server had an error while processing your request. It is in the server's log under {request_id}."
    return answer(ApiProblem(500, text))


def install(app: FastAPI) -> None:
    """Make every error of `app` an envelope."""
    handlers: dict[Any, Callable[..., Any]] = {
        PinetuneError: _ours,
        RequestValidationError: _bad_parameter,
        HTTPException: _no_route,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _ours(_: Request, error: PinetuneError) -> JSONResponse:
    problem = as_problem(error)
    if problem.status >= 500:
        log.error("%s", error, exc_info=error)
    return answer(problem)


async def _bad_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
    """Query parameters, which FastAPI checks; bodies are checked by `bodies`."""
    return answer(bad_parameter(error.errors()[0]))


async def _no_route(request: Request, error: HTTPException) -> JSONResponse:
    response = answer(no_route(error.status_code, request.method, request.url.path, str(error.detail), error.headers))
    response.headers.update(error.headers or {})
    return response

"""Every error that can leave a route, as OpenAI's envelope with the right status. The one place that knows both sides."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pinetune.api.grader_check import grader_problem
from pinetune.errors import (
    BudgetSpent,
    GraderError,
    MoveRefused,
    NotFound,
    PartsWrong,
    PinetuneError,
    StoreBusy,
    StoreError,
    StoreFull,
    TooLarge,
    UserError,
)
from pinetune.wire.errors import ApiProblem, from_user_error

log = logging.getLogger("pinetune.api")

# What the hosted API calls a missing object: message, param, code. Kinds are the store's.
MISSING: dict[str, tuple[str, str, str | None]] = {
    "file": ("No such File object: {id}", "id", None),
    "file content": ("No such File object: {id}", "id", None),
    "upload": ("No such Upload object: {id}", "upload_id", None),
    "fine-tuning job": ("Could not find fine tune: {id}", "fine_tune_id", "fine_tune_not_found"),
    "model": ("The model '{id}' does not exist or you do not have access to it.", "model", "model_not_found"),
}


def as_problem(error: Exception) -> ApiProblem:
    """The problem that an exception of ours is to the caller."""
    if isinstance(error, ApiProblem):
        return error
    if isinstance(error, NotFound):
        return _missing(error)
    if isinstance(error, MoveRefused):
        return ApiProblem(400, str(error), code="invalid_state")
    if isinstance(error, TooLarge):
        return ApiProblem(413, str(error), code="file_too_large", param="file")
    if isinstance(error, StoreBusy):
        return ApiProblem(503, str(error), code="storage_busy", retry_after=2)
    if isinstance(error, StoreFull):
        return ApiProblem(507, str(error), code="storage_full")
    if isinstance(error, PartsWrong):
        return ApiProblem(400, str(error), code="invalid_parts")
    if isinstance(error, GraderError):
        return grader_problem(error)
    if isinstance(error, BudgetSpent):
        return ApiProblem(429, str(error), type="insufficient_quota", code="insufficient_quota")
    if isinstance(error, StoreError):
        return ApiProblem(503, str(error), code="storage_unavailable", retry_after=10)
    return from_user_error(error) if isinstance(error, UserError) else ApiProblem(500, str(error))


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
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"][1:])
    said = fault["msg"][0].lower() + fault["msg"][1:]
    text = f"Invalid '{name}': {said.removeprefix('value error, ').removeprefix('input ')}, not {str(fault['input'])[:100]!r}"
    return answer(ApiProblem(400, text, code="invalid_value", param=name or None))


async def _no_route(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == 404:
        return answer(ApiProblem(404, f"Invalid URL ({request.method} {request.url.path})", code="unknown_url"))
    if error.status_code == 405:
        text = f"Not allowed to {request.method} on {request.url.path}; use {(error.headers or {}).get('Allow', 'another method')}"
        response = answer(ApiProblem(405, text, code="method_not_allowed"))
        response.headers.update(error.headers or {})
        return response
    return answer(ApiProblem(error.status_code, str(error.detail)))


def _missing(error: NotFound) -> ApiProblem:
    if error.kind == "cursor":
        return ApiProblem(400, f"Invalid 'after': no object {error.id} in this list", code="invalid_value", param="after")
    text, param, code = MISSING.get(error.kind, ("No such {kind}: {id}", None, None))
    return ApiProblem(404, text.format(kind=error.kind, id=error.id), code=code, param=param)

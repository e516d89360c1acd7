"""Our exceptions as the problems that callers are told of: the one place that knows both sides, for every program that answers HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinetune.errors import (
    BudgetSpent,
    GraderError,
    MoveRefused,
    NotFound,
    PartsWrong,
    StoreBusy,
    StoreError,
    StoreFull,
    TooLarge,
    UserError,
)
from pinetune.wire.errors import ApiProblem, from_user_error

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


def grader_problem(error: GraderError, path: str = "grader") -> ApiProblem:
    """Messages of GraderError start with the JSON path of the fault."""
    head = str(error).split(": ", 1)[0]
    param = head if head == path or head.startswith((f"{path}.", f"{path}[")) else path
    return ApiProblem(400, str(error), code="invalid_grader", param=param)


def bad_parameter(fault: Mapping[str, Any]) -> ApiProblem:
    """For a fault of a path or query parameter, as pydantic tells it."""
    name = ".".join(str(part) for part in fault["loc"][1:])
    said = fault["msg"][0].lower() + fault["msg"][1:]
    text = f"Invalid '{name}': {said.removeprefix('value error, ').removeprefix('input ')}, not {str(fault['input'])[:100]!r}"
    return ApiProblem(400, text, code="invalid_value", param=name or None)


def no_route(status: int, method: str, path: str, detail: str, headers: Mapping[str, str] | None) -> ApiProblem:
    """For what the framework answers before any route is asked: an address that is none, a method that it does not have."""
    if status == 404:
        return ApiProblem(404, f"Invalid URL ({method} {path})", code="unknown_url")
    if status == 405:
        allowed = (headers or {}).get("Allow", "another method")
        return ApiProblem(405, f"Not allowed to {method} on {path}; use {allowed}", code="method_not_allowed")
    return ApiProblem(status, detail)


def _missing(error: NotFound) -> ApiProblem:
    if error.kind == "cursor":
        return ApiProblem(400, f"Invalid 'after': no object {error.id} in this list", code="invalid_value", param="after")
    text, param, code = MISSING.get(error.kind, ("No such {kind}: {id}", None, None))
    return ApiProblem(404, text.format(kind=error.kind, id=error.id), code=code, param=param)

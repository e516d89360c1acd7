"""The base of all request shapes, and pydantic's complaints in plain words."""

from __future__ import annotations

import difflib
from typing import Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

Auto = Literal["auto"]


class Wire(BaseModel):
    """A request shape: unknown keys are refused, as the hosted API refuses them."""

    model_config = ConfigDict(extra="forbid")


def absent(instead: str) -> BeforeValidator:
    """For a parameter of the hosted API that is not here: null is as if it were left out, anything else is told what to do instead."""

    def refuse(value: Any) -> None:
        if value is not None:
            raise PydanticCustomError("unsupported_parameter", "is not supported here; {instead}", {"instead": instead})

    return BeforeValidator(refuse)


def complaints(error: ValidationError, shape: type[BaseModel]) -> list[tuple[str, str]]:
    """Each fault as (JSON path, what is wrong and what to do), one a path: a union names its best-fitting branch only."""
    found: dict[str, str] = {}
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"] if not _is_branch(part))
        text = _unknown_key(fault["loc"], shape) if fault["type"] == "extra_forbidden" else _said(fault)
        found[path] = f"{found[path]}, or {text}" if path in found else text
    return list(found.items())


def _is_branch(part: int | str) -> bool:
    """pydantic puts the name of a union's branch into the path; users know only their own keys."""
    return isinstance(part, str) and (part.startswith(("literal[", "constrained-", "function-", "tag-")) or part in {"int", "float", "str"})


def _said(fault: Any) -> str:
    if fault["type"] == "missing":
        return "is missing; add it"
    if fault["type"] == "too_short":
        return f"has too few entries: {fault['ctx']['actual_length']}; it needs at least {fault['ctx']['min_length']}"
    if fault["type"] == "literal_error":
        return f"must be {fault['ctx']['expected']}, not {brief(fault['input'])}"
    if fault["type"] == "unsupported_parameter":
        return str(fault["msg"])
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{message.removeprefix('value error, ').removeprefix('input ')}, not {brief(fault['input'])}"[:300]


def brief(value: Any) -> str:
    """A value of a request as a message shows it: at most 200 characters, whatever was sent."""
    try:
        text = repr(value)
        return text if len(text) <= 200 else f"{text[:200]}..."
    except RecursionError:
        return f"a {type(value).__name__} nested too deeply"


def _unknown_key(loc: tuple[int | str, ...], shape: type[BaseModel]) -> str:
    key = str(loc[-1])
    known = _keys_at(loc[:-1], shape)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(sorted(known))}" if known else ""
    return f"unknown parameter '{key}'{hint}"


def _keys_at(loc: tuple[int | str, ...], shape: type[BaseModel]) -> list[str]:
    for part in loc:
        if not isinstance(part, str) or part not in shape.model_fields:
            continue
        inner = _model_in(shape.model_fields[part].annotation)
        if inner is None:
            return []
        shape = inner
    return list(shape.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)

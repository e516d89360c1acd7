"""A grader definition (OpenAI's JSON) to a Grader. One line of BUILDERS is one type."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from pinetune.errors import GraderError
from pinetune.graders.options import BuildOptions, Services
from pinetune.records import Grader
from pinetune.sandbox.limits import Limits
from pinetune.wire.base import brief, complaints
from pinetune.wire.graders import DEFINITIONS, Definition, Endpoint

# Each module has build(definition, options) -> Grader; it is imported when a grader of its type is built.
BUILDERS = {
    "string_check": "pinetune.graders.string_check",
    "text_similarity": "pinetune.graders.text_similarity",
    "score_model": "pinetune.graders.score_model",
    "label_model": "pinetune.graders.label_model",
    "python": "pinetune.graders.python",
    "endpoint": "pinetune.graders.endpoint",
    "multi": "pinetune.graders.multi",
}


def build_grader(
    definition: Mapping[str, Any] | BaseModel,
    *,
    trusted: bool = False,
    unsafe_python: bool = False,
    json_answers: bool = False,
    limits: Limits | None = None,
    services: Services | None = None,
    endpoint_seconds: float = 600.0,
    path: str = "grader",
) -> Grader:
    """The grader that `definition` describes; `path` is its JSON path in what the user wrote, for complaints.

    Raises GraderError for a bad definition, MissingToolError where a python grader cannot be confined on this host and
    neither `trusted` (the caller vouches for the source) nor `unsafe_python` (the operator allows it by name) is set.
    `json_answers`: the job has a response_format, so samples carry `output_json`.
    `services`: what judges ask and embeddings come from; a grader that needs one that is absent is a GraderError.
    `endpoint_seconds`: how long an endpoint grader waits for each reply.
    """
    options = BuildOptions(
        path, "grader", trusted, unsafe_python, json_answers, limits or Limits(), services or Services(), endpoint_seconds
    )
    return build_part(parse_definition(definition, path), options)


def build_part(definition: Definition, options: BuildOptions) -> Grader:
    """The grader of a parsed definition; `multi` builds its parts with this."""
    kind = cast(Any, definition).type
    module = importlib.import_module(BUILDERS[kind])
    named = options if options.default_name != "grader" else replace(options, default_name=kind)
    return cast(Grader, module.build(definition, named))


def parse_definition(definition: Mapping[str, Any] | BaseModel, path: str = "grader") -> Definition:
    """The definition as its wire model; raises GraderError with one line a fault, each starting with its JSON path."""
    if isinstance(definition, Definition):
        return definition
    body = definition.model_dump(exclude_none=True) if isinstance(definition, BaseModel) else definition
    if not isinstance(body, Mapping):
        raise GraderError(f'{path}: must be a JSON object such as {{"type": "string_check", ...}}, not {type(body).__name__}')
    kind = body.get("type")
    if kind is None:
        raise GraderError(f"{path}.type: is missing; add one of: {', '.join(DEFINITIONS)}")
    shape = DEFINITIONS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        near = difflib.get_close_matches(kind, DEFINITIONS, n=1, cutoff=0.5) if isinstance(kind, str) else []
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(DEFINITIONS)}"
        raise GraderError(f"{path}.type: unknown grader type {brief(kind)}; {hint}")
    try:
        return shape.model_validate(dict(body))
    except ValidationError as error:
        faults = complaints(error, shape)
        if shape is Endpoint:  # a header's value may be a key: say what is wrong, not what it is
            faults = [(where, what.split(", not ")[0] if where.startswith("headers") else what) for where, what in faults]
        lines = [f"{path}.{where}: {what}" if where else f"{path}: {what}" for where, what in faults]
        raise GraderError("\n".join(lines)) from None

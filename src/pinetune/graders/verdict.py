"""A grade in OpenAI's words: the reply of `graders/run`, the echo of `graders/validate`, and pass or fail in evals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader, parse_definition
from pinetune.graders.multi import by_key
from pinetune.graders.options import Services
from pinetune.records import Completion, Grade, Row
from pinetune.sandbox.limits import Limits
from pinetune.wire.base import Wire, complaints
from pinetune.wire.grader_run import (
    GraderErrors,
    GraderRunMetadata,
    GraderRunRequest,
    GraderRunResponse,
    GraderValidateRequest,
    TokenUsage,
)
from pinetune.wire.graders import Definition, LabelModel, Multi, ScoreModel, StringCheck

Shape = TypeVar("Shape", bound=Wire)
HIDDEN = "***"
# The 11 published flags; what else went wrong sets other_error besides its own flag, for clients that know only these.
PUBLISHED = frozenset(name for name in list(GraderErrors.model_fields)[:14] if not name.endswith(("_type", "_details")))


def run_grader(
    request: Mapping[str, Any],
    *,
    trusted: bool = False,
    unsafe_python: bool = False,
    services: Services | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The reply to `graders/run`, ready for JSON. A sample that is valid JSON has `output_json`.

    Raises GraderError for a bad request or definition, and what `build_grader` raises; never for a grade that failed.
    """
    body = _checked(request, GraderRunRequest)
    definition = parse_definition(body.grader)
    grader = build_grader(definition, trusted=trusted, unsafe_python=unsafe_python, json_answers=True, services=services, limits=limits)
    item = dict(body.item or {})
    if "reference_answer" in request:
        item.setdefault("reference_answer", body.reference_answer)
    try:
        grade = grader.grade(_completion(body), Row(index=0, messages=(), item=item))
    finally:
        grader.close()
    return verdict(grade, name=grader.name, kind=str(body.grader["type"])).model_dump()


def validate_grader(request: Mapping[str, Any], *, unsafe_python: bool = False, services: Services | None = None) -> dict[str, Any]:
    """The reply to `graders/validate`: {"grader": the definition as it was understood}. Nothing of it is run.

    Raises GraderError for a bad definition, MissingToolError where this host could not run it.
    """
    body = _checked(request, GraderValidateRequest)
    definition = parse_definition(body.grader)
    build_grader(definition, unsafe_python=unsafe_python, services=services).close()
    return {"grader": shown(definition)}


def verdict(grade: Grade, *, name: str, kind: str) -> GraderRunResponse:
    """`kind` is the grader's type. A grade that failed is a reward of 0 with its flag; that is the contract of this reply alone."""
    ok = grade.status == "ok"
    per_model = {model: _usage([usage]) for model, usage in grade.usage.items()}
    metadata = GraderRunMetadata(
        name=name,
        type=kind,
        errors=GraderErrors() if ok else _errors(grade),
        execution_time=grade.seconds,
        scores=dict(grade.parts),
        token_usage=_usage(list(grade.usage.values())) if grade.usage else None,
        sampled_model_name=grade.model or None,
    )
    return GraderRunResponse(
        reward=grade.value if ok else 0.0,
        metadata=metadata,
        sub_rewards=dict(grade.parts),
        model_grader_token_usage_per_model=per_model,
    )


def _errors(grade: Grade) -> GraderErrors:
    kind = grade.error_kind if grade.error_kind in GraderErrors.model_fields else "other_error"
    found: dict[str, Any] = {kind: True}
    if kind not in PUBLISHED:
        found["other_error"] = True
    if f"{kind}_details" in GraderErrors.model_fields:
        found[f"{kind}_details"] = grade.explanation
    if kind == "python_grader_server_error":
        found["python_grader_server_error_type"] = next(iter(grade.explanation.splitlines()), "")
    return GraderErrors(**found)


def _usage(counts: list[Mapping[str, int]]) -> TokenUsage:
    return TokenUsage(**{name: sum(count.get(name, 0) for count in counts) for name in TokenUsage.model_fields})


def _completion(body: GraderRunRequest) -> Completion:
    if isinstance(body.model_sample, str):
        return Completion((), (), (), "stop", body.model_sample)
    message = body.model_sample
    return Completion((), (), (), "stop", message.content or "", tool_calls=tuple(message.tool_calls))


def _checked(request: Mapping[str, Any], shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate(dict(request))
    except ValidationError as error:
        raise GraderError("\n".join(f"{where}: {what}" if where else what for where, what in complaints(error, shape))) from None


def shown(definition: Mapping[str, Any] | BaseModel, name: str = "") -> dict[str, Any]:
    """The definition as it may be shown: headers hidden, names filled in, `neq` as `ne`, the parts of a multi as a dict.

    Raises GraderError for one that cannot be read.
    """
    parsed = parse_definition(definition)
    body = parsed.model_dump(mode="json", exclude_none=True)
    body["name"] = parsed.name or name or body["type"]
    if isinstance(parsed, StringCheck) and parsed.operation == "neq":
        body["operation"] = "ne"
    if isinstance(parsed, Multi):
        body["graders"] = {key: shown(part, key) for key, part in by_key(parsed.graders, "grader.graders").items()}
    return cast(dict[str, Any], hide_headers(body))


def hide_headers(value: Any) -> Any:
    """A JSON value (a grader, a job body, a list of jobs) as it may be shown or kept: endpoint graders in it without their keys.

    >>> hide_headers({"grader": {"type": "endpoint", "url": "https://x", "headers": {"Authorization": "Bearer sk-1"}}})
    {'grader': {'type': 'endpoint', 'url': 'https://x', 'headers': {'Authorization': '***'}}}
    """
    if isinstance(value, list):
        return [hide_headers(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    body = {key: hide_headers(inner) for key, inner in value.items()}
    if body.get("type") == "endpoint" and body.get("headers"):
        headers = body["headers"]
        body["headers"] = dict.fromkeys(headers, HIDDEN) if isinstance(headers, Mapping) else HIDDEN
    return body


def pass_threshold(definition: Definition) -> float:
    """The value from which an answer passes in an eval: the grader's own `pass_threshold`; else 1 for yes-or-no graders
    (string_check, label_model), the middle of its range for score_model, 0.5 for the others. It never touches a reward."""
    if definition.pass_threshold is not None:
        return definition.pass_threshold
    if isinstance(definition, (StringCheck, LabelModel)):
        return 1.0
    return sum(definition.range) / 2 if isinstance(definition, ScoreModel) else 0.5


def passed(grade: Grade, threshold: float) -> bool | None:
    """None where it could not be graded: then the answer neither passed nor failed."""
    return grade.value >= threshold if grade.status == "ok" else None

"""The testing criteria of an eval: each answer is graded by all of them, and each says pass, fail or could not grade.

A criterion is a grader definition with an id. Besides the hosted API's five types `multi` and `endpoint` work too: then a
job's own grader can be a criterion as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader, parse_definition
from pinetune.graders.options import Services
from pinetune.graders.verdict import hide_headers, pass_threshold, passed, shown
from pinetune.records import Completion, Grade, Grader, Row
from pinetune.wire.graders import Python as PythonDefinition
from pinetune.wire.graders import ScoreModel, TextSimilarity

THRESHOLD_SHOWN = (TextSimilarity, ScoreModel, PythonDefinition)  # the client's types want it, or know it


@dataclass(frozen=True, slots=True)
class Criterion:
    """`id` is `<name>-<uuid>`; it names the criterion in results."""

    id: str
    kind: str
    threshold: float
    grader: Grader | None  # None: what was graded elsewhere


class Criteria:
    """Built once, used from many threads; close it after the last item."""

    def __init__(self, definitions: Sequence[Mapping[str, Any]], *, services: Services | None = None, unsafe_python: bool = False) -> None:
        """Raises GraderError with the JSON path of the fault, MissingToolError where python graders cannot be confined."""
        self.list: list[Criterion] = []
        try:
            for index, definition in enumerate(definitions):
                self.list.append(_build(definition, f"testing_criteria[{index}]", services, unsafe_python))
        except BaseException:
            self.close()
            raise

    def grade(self, completion: Completion, item: Mapping[str, Any], position: int = 0) -> list[dict[str, Any]]:
        """One result a criterion, in their order. Raises BudgetSpent when there is no money left to ask judges with."""
        row = Row(index=position, messages=(), item=item)
        return [result_of(criterion, criterion.grader.grade(completion, row)) for criterion in self.list if criterion.grader is not None]

    def close(self) -> None:
        for criterion in self.list:
            if criterion.grader is not None:
                criterion.grader.close()


def with_ids(definitions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The definitions as they are kept: each with a new id. An id that was sent along (copied from another eval) is left out."""
    kept = []
    for index, definition in enumerate(definitions):
        plain = {key: value for key, value in definition.items() if key != "id"}
        parsed = parse_definition(plain, f"testing_criteria[{index}]")
        name = parsed.name or str(plain["type"])
        kept.append({**plain, "name": name, "id": f"{name}-{uuid.uuid4()}"})
    return kept


def criterion_ids(definitions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Their ids, in order; evals brought over from elsewhere may have names only."""
    return [str(definition.get("id") or definition.get("name") or definition.get("type")) for definition in definitions]


def shown_criterion(definition: Mapping[str, Any]) -> dict[str, Any]:
    """As users see it: id first, names filled in, `neq` as `ne`, the threshold that holds, keys hidden."""
    plain = {key: value for key, value in definition.items() if key != "id"}
    try:
        parsed = parse_definition(plain)
    except GraderError:  # brought over from another server, which knows more
        return {"id": criterion_ids([definition])[0], **cast(dict[str, Any], hide_headers(plain))}
    body = {"id": criterion_ids([definition])[0], **shown(parsed)}
    if isinstance(parsed, THRESHOLD_SHOWN):
        body["pass_threshold"] = pass_threshold(parsed)
    return body


def status_of(results: Sequence[Mapping[str, Any]]) -> str:
    """pass where every criterion passed, error where one could not grade, else fail.

    >>> status_of([{"passed": True}, {"passed": False}]), status_of([{"passed": False, "error": {}}, {"passed": False}])
    ('fail', 'error')
    """
    if any(result.get("error") is not None for result in results):
        return "error"
    return "pass" if all(result["passed"] for result in results) else "fail"


def _build(definition: Mapping[str, Any], path: str, services: Services | None, unsafe_python: bool) -> Criterion:
    plain = {key: value for key, value in definition.items() if key != "id"}
    parsed = parse_definition(plain, path)
    grader = build_grader(parsed, json_answers=True, services=services, unsafe_python=unsafe_python, path=path)
    return Criterion(criterion_ids([definition])[0], str(plain["type"]), pass_threshold(parsed), grader)


def result_of(criterion: Criterion, grade: Grade) -> dict[str, Any]:
    """A grade as an entry of `results`. Could not grade is `score` 0 and `passed` False beside an `error`: clients want all three."""
    ok = grade.status == "ok"
    result: dict[str, Any] = {
        "name": criterion.id,
        "type": f"{criterion.kind.replace('_', '-')}-grader",
        "score": grade.value if ok else 0.0,
        "passed": bool(passed(grade, criterion.threshold)),
        "sample": _judgement(grade),
    }
    if grade.parts:
        result["parts"] = dict(grade.parts)
    if not ok:
        result["error"] = {"code": grade.error_kind or "other_error", "message": grade.explanation}
    return result


def _judgement(grade: Grade) -> dict[str, Any] | None:
    """What a judge said and used; None for criteria that ask nobody."""
    if not grade.model:
        return None
    said = [{"role": "assistant", "content": grade.explanation}]
    usage = {model: dict(used) for model, used in grade.usage.items()}
    return {"model": grade.model, "output": said, "usage_per_model": usage}

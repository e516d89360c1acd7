"""`multi`: several graders on one answer, and a formula over their values.

A part that could not grade makes the whole ungraded, with the part's own error: half an answer is no reward.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.build import build_part, parse_definition
from pinetune.graders.formula import FUNCTIONS, Formula
from pinetune.graders.options import BuildOptions
from pinetune.records import Completion, Grade, Grader, Row
from pinetune.wire.graders import Definition, Multi


class MultiGrader:
    """`parts` of its grades holds each part's value under its key."""

    def __init__(self, name: str, parts: dict[str, Grader], formula: Formula) -> None:
        self.name = name
        self._parts = parts
        self._formula = formula

    def grade(self, completion: Completion, row: Row) -> Grade:
        start = time.perf_counter()
        values: dict[str, float] = {}
        said: list[str] = []
        grades: list[Grade] = []
        for key, grader in self._parts.items():
            grade = grader.grade(completion, row)
            grades.append(grade)
            if grade.status == "error":
                why = f"{key}: {grade.explanation}"
                return Grade("error", 0.0, why, grade.error_kind, values, time.perf_counter() - start, **_cost(grades))
            values[key] = grade.value
            said += [f"{key}: {grade.explanation}"] if grade.explanation else []
        try:
            value = self._formula.value(values)
        except GradingFailed as failure:
            return Grade("error", 0.0, str(failure), failure.kind, values, time.perf_counter() - start, **_cost(grades))
        return Grade("ok", value, "\n".join(said), parts=values, seconds=time.perf_counter() - start, **_cost(grades))

    def close(self) -> None:
        for grader in self._parts.values():
            grader.close()


def _cost(grades: list[Grade]) -> dict[str, Any]:
    """What the judges among the parts used, summed by model; `model` names them all."""
    usage: dict[str, dict[str, int]] = {}
    for grade in grades:
        for model, counts in grade.usage.items():
            total = usage.setdefault(model, {})
            for kind, count in counts.items():
                total[kind] = total.get(kind, 0) + count
    return {"usage": usage, "model": ", ".join(dict.fromkeys(grade.model for grade in grades if grade.model))}


def build(definition: Multi, options: BuildOptions) -> MultiGrader:
    where = f"{options.path}.graders"
    definitions = by_key(definition.graders, where)
    formula = Formula.parse(definition.calculate_output, set(definitions), f"{options.path}.calculate_output")
    parts: dict[str, Grader] = {}
    try:
        for key, part in definitions.items():
            parts[key] = build_part(part, replace(options, path=f"{where}.{key}", default_name=key))
    except Exception:
        for built in parts.values():
            built.close()
        raise
    return MultiGrader(definition.name or options.default_name, parts, formula)


def by_key(graders: dict[str, Any] | list[dict[str, Any]], where: str) -> dict[str, Definition]:
    """The parts by their key in the formula; a lone grader and a list are keyed by their names."""
    if isinstance(graders, dict) and isinstance(graders.get("type"), str):
        graders = [graders]
    if isinstance(graders, list):
        keyed = {str(grader.get("name") or grader.get("type")): grader for grader in graders}
        if len(keyed) < len(graders):
            raise GraderError(f"{where}: two graders have the same name; a dict of key to grader is clearer")
        graders = keyed
    definitions = {}
    for key, grader in graders.items():
        if not key.isidentifier() or key in FUNCTIONS:
            raise GraderError(f"{where}: {key!r} cannot be a name in the formula; use letters, digits and _, and no function's name")
        definitions[key] = parse_definition(grader, f"{where}.{key}")
        if isinstance(definitions[key], Multi):
            raise GraderError(f"{where}.{key}.type: a multi grader cannot stand inside another one")
    return definitions

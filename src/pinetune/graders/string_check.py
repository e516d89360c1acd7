"""`string_check`: 1 or 0 by comparing two texts."""

from __future__ import annotations

import time
from collections.abc import Callable

from pinetune.errors import GradingFailed
from pinetune.graders.options import BuildOptions
from pinetune.graders.template import Template, scope_of
from pinetune.records import Completion, Grade, Row
from pinetune.wire.graders import StringCheck

# `like` asks whether the input contains the reference, not the other way round; it is no SQL pattern.
OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "neq": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


class StringCheckGrader:
    """1.0 where the operation holds between the rendered `input` and `reference`, else 0.0."""

    def __init__(self, definition: StringCheck, options: BuildOptions) -> None:
        self.name = definition.name or options.default_name
        self._input = Template.parse(definition.input, f"{options.path}.input")
        self._reference = Template.parse(definition.reference, f"{options.path}.reference")
        self._holds = OPERATIONS[definition.operation]
        self._json_answers = options.json_answers

    def grade(self, completion: Completion, row: Row) -> Grade:
        start = time.perf_counter()
        scope = scope_of(completion, row, json_answers=self._json_answers)
        try:
            holds = self._holds(self._input.render(scope), self._reference.render(scope))
        except GradingFailed as failure:
            return Grade("error", explanation=str(failure), error_kind=failure.kind, seconds=time.perf_counter() - start)
        return Grade("ok", float(holds), seconds=time.perf_counter() - start)

    def close(self) -> None:
        """Nothing is held."""


def build(definition: StringCheck, options: BuildOptions) -> StringCheckGrader:
    return StringCheckGrader(definition, options)

"""The form in which a grader pays for the reference answer, or None where no form is paid."""

from __future__ import annotations

from collections.abc import Sequence

from pinetune.bench.forms import Form, find_form
from pinetune.bench.options import BenchOptions
from pinetune.bench.run import completion_of
from pinetune.records import Grader, Row


def paid_form(grader: Grader, rows: Sequence[Row], field: str, options: BenchOptions) -> Form | None:
    """Tried on the first few of `rows`; every one of them can be written in it. `field` holds the reference answer."""

    def score(row: Row, text: str) -> float | None:
        grade = grader.grade(completion_of(text), row)
        return grade.value if grade.status == "ok" else None

    form, satisfied = find_form(rows, rows, field, options, score)
    return form if satisfied else None

"""In which form a grader wants the reference answer: plain, under a key, in a list, after "The answer is", as a program.

A dataset holds what is right ("TSC2"), not how the model must say it ({"genes": ["TSC2"]}). Candidate forms are tried on
a few rows; the one the grader pays best is how the probes write their answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.bench.keys import answer_keys, asks_a_judge, schema_example
from pinetune.bench.options import BenchOptions
from pinetune.data.answers import ANSWER_FIELDS, find_answer_field, lookup
from pinetune.errors import DataError, GraderError, GradingFailed
from pinetune.graders.template import Template, as_text
from pinetune.records import Row

Score = Callable[[Row, str], float | None]  # None: could not be graded
ROWS_TRIED = 4
SATISFIED = 0.999
MOST_FORMS_FOR_A_JUDGE = 6  # each try costs money
NUMBER = re.compile(r"\s*-?\d[\d,]*(\.\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Form:
    """`write(row)` is the row's reference answer as a model should say it; `name` shows it."""

    name: str
    write: Callable[[Row], str]


def find_form(rows: Sequence[Row], tried: Sequence[Row], field: str, options: BenchOptions, score: Score) -> tuple[Form, bool]:
    """The form that is paid best on the first few of `tried`, and whether it scores above 0 there.

    Every one of `rows` can be written in it.
    Raises: GraderError for a faulty `answer_template`.
    """
    if options.answer_template is not None:
        form = template_form(options.answer_template, rows)
        return form, any((score(row, form.write(row)) or 0.0) > 0.0 for row in tried[:ROWS_TRIED])
    forms = list(candidates(rows, field, options))
    if asks_a_judge(options.definition):
        forms = forms[:MOST_FORMS_FOR_A_JUDGE]
    best, best_mean = forms[0], 0.0
    for form in forms:
        mean = _mean_score(form, tried[:ROWS_TRIED], score)
        if mean > best_mean:
            best, best_mean = form, mean
        if mean >= SATISFIED:
            break
    return best, best_mean > 0.0


def _mean_score(form: Form, rows: Sequence[Row], score: Score) -> float:
    """A grade that failed counts 0 here: a form that cannot be graded is not the one."""
    return sum(score(row, form.write(row)) or 0.0 for row in rows) / len(rows)


def require_answer_field(rows: Sequence[Row], options: BenchOptions, file: str) -> str:
    """The field of the reference answer; raises DataError with what to do where rows have none."""
    where = file or "the rows"
    if options.answer_field is not None:
        for row in rows:
            if lookup(row.item, options.answer_field) is None:
                at = f"{where}:{row.line}" if row.line else f"{where}: row {row.index}"
                have = ", ".join(key for key in row.item if key != "messages") or "only messages"
                raise DataError(f"{at}: {options.answer_field}: no such field, or null; the row has: {have}")
        return options.answer_field
    found = find_answer_field(rows)
    if found is None and options.answer_template is None:
        raise DataError(
            f"{where}: no field that every row has looks like the answer (tried {', '.join(ANSWER_FIELDS[:6])}, ...); "
            "name it with --answer-field"
        )
    return found or ""


def candidates(rows: Sequence[Row], field: str, options: BenchOptions) -> Iterator[Form]:
    """Forms to try, the plainest first; the first row shows what kind of value a reference is."""
    row = rows[0]
    value = lookup(row.item, field)
    yield Form("the reference as it is", lambda row: as_text(lookup(row.item, field)))
    keys = answer_keys(options.definition, row.item)
    if options.schema is not None:
        example = schema_example(options.schema)
        if isinstance(example, dict):
            for key in example:
                yield from _keyed(key, field, value, example)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):  # JSON kept as text: the parsed object is the answer
        yield Form("the reference as JSON", lambda row: json.dumps(_parsed(lookup(row.item, field)), ensure_ascii=False))
    for key in [*keys, *(key for key in ("answer", "result", field) if key not in keys)]:
        yield from _keyed(key, field, value, {})
    yield from _phrases(field, value)
    yield Form("```python\n...\n```", lambda row: f"```python\n{as_text(lookup(row.item, field))}\n```")
    for other in row.item:  # a reference solution beside the reference result: a program, a worked answer
        if other not in ("messages", field) and all(isinstance(row.item.get(other), str) for row in rows):
            yield _other_field(other)


def _other_field(name: str) -> Form:
    return Form(f"{{{{ item.{name} }}}}", lambda row: as_text(lookup(row.item, name)))


def _keyed(key: str, field: str, value: Any, rest: Mapping[str, Any]) -> Iterator[Form]:
    def form(shown: str, inner: Callable[[Any], Any]) -> Form:
        def write(row: Row) -> str:
            return json.dumps({**rest, key: inner(lookup(row.item, field))}, ensure_ascii=False)

        return Form(f'{{"{key}": {shown}}}', write)

    if not isinstance(value, list):
        yield form('["..."]', lambda value: [value])
    yield form('"..."' if isinstance(value, str) else "...", lambda value: value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        yield form("number", _number)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        yield form("JSON", _parsed)


def _phrases(field: str, value: Any) -> Iterator[Form]:
    if isinstance(value, Mapping | list):
        return

    def phrase(shape: str) -> Form:
        return Form(shape.format("..."), lambda row: shape.format(as_text(lookup(row.item, field))))

    for shape in ("The answer is {}.", "#### {}", "\\boxed{{{}}}", "<answer>{}</answer>"):
        yield phrase(shape)
    if NUMBER.fullmatch(str(value)):
        for shape in ("def solution():\n    return {}", "```python\nprint({})\n```"):
            yield Form(shape.format("..."), lambda row, s=shape: s.format(_number(lookup(row.item, field))))  # type: ignore[misc]


def _number(value: Any) -> Any:
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        return value
    number = float(value.replace(",", ""))
    return int(number) if number.is_integer() else number


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def template_form(text: str, rows: Sequence[Row]) -> Form:
    """The form a person gives. In a JSON template, values are put into its strings and escaped as JSON needs it."""
    try:
        shape = json.loads(text)
    except (ValueError, RecursionError):
        shape = None
    where = "--answer-template"
    Template.parse(text, where)
    as_json = isinstance(shape, dict | list)

    def write(row: Row) -> str:
        scope = {"item": row.item, "sample": {}}
        if not as_json:
            return Template.parse(text, where).render(scope)
        return json.dumps(_fill(shape, lambda leaf: Template.parse(leaf, where).render(scope)), ensure_ascii=False)

    for row in rows:
        try:
            write(row)
        except GradingFailed as failure:
            at = f"line {row.line}" if row.line else f"row {row.index}"
            raise GraderError(f"{where}: {at}: {failure}") from None
    return Form(text, write)


def _fill(value: Any, render: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return render(value)
    if isinstance(value, list):
        return [_fill(inner, render) for inner in value]
    return {key: _fill(inner, render) for key, inner in value.items()} if isinstance(value, dict) else value

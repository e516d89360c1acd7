"""The rows of a run: read, checked against the eval's schema, and turned into what a model is asked.

{"item": {"question": "2+2?", "answer": "4"}}                       a row; a model answers it
{"item": {...}, "sample": {"output_text": "4"}}                     a row that brings its answer
{"messages": [...], "reference_answer": "4"}                        a fine-tuning row is taken as the item itself
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pinetune.data.jsonl import Complaints, kind, read_objects
from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.judge_input import JudgeInput
from pinetune.graders.template import Template, Variable
from pinetune.records import Completion, Message
from pinetune.wire.evals import InputMessages, ItemReference

NOTHING: Mapping[str, Any] = {"output_text": None, "output_json": None, "output_tools": None, "choices": None}


@dataclass(frozen=True, slots=True)
class Case:
    """One answer to come. `sample` is the one that its row brought along, `line` the row's place in a file (0 = not from a file).

    With several samples a row, `row` is the row's number and `repeat` the sample's; else `row` is the position.
    """

    position: int
    item: Mapping[str, Any]
    sample: Mapping[str, Any] | None = None
    line: int = 0
    row: int | None = None
    repeat: int = 0


def repeated(cases: Sequence[Case], times: int) -> list[Case]:
    """Each row `times` times, its samples next to each other."""
    return [replace(case, position=case.position * times + r, row=case.position, repeat=r) for case in cases for r in range(times)]


@dataclass(frozen=True)
class RowSchema:
    """The JSON schema of an eval's rows, `{"type": "object", "properties": {"item": ..., "sample": ...}}`."""

    schema: Mapping[str, Any]

    def fault(self, item: Mapping[str, Any]) -> tuple[str, str] | None:
        """(path below `item`, what is wrong) of the gravest fault, or None."""
        from jsonschema.exceptions import best_match
        from referencing.exceptions import Unresolvable

        try:
            error = best_match(self._validator.iter_errors(item))
        except (Unresolvable, RecursionError) as broken:  # a $ref that leads nowhere, or to itself
            return "item", f"the eval's item_schema cannot be applied: {str(broken)[:200] or 'it refers to itself'}"
        if error is None:
            return None
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
        return f"item{path}", error.message[:300]

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend

        timed = extend(Draft202012Validator, {"pattern": _timed_pattern})
        return timed(dict(self.schema.get("properties", {}).get("item", {})))


PATTERN_SECONDS = 0.05  # a pattern such as (a+)+$ can take years on thirty characters, and would hold up the whole server


def _timed_pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Any]:
    """JSON schema's `pattern`, given up after PATTERN_SECONDS."""
    import regex
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, str):
        return
    try:
        if not regex.search(pattern, value, timeout=PATTERN_SECONDS):
            yield ValidationError(f"{value[:100]!r} does not match {pattern[:100]!r}")
    except TimeoutError:
        yield ValidationError(f"the pattern {pattern[:100]!r} takes too long on this text; write it without nested repeats")


def check_schema(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a JSON schema, or None. References to other documents are refused: nothing is fetched."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        return f"{where}: {error.message[:300]}" if where else error.message[:300]
    except RecursionError:
        return "it is nested too deeply"
    import regex

    for pattern in _patterns(schema):
        try:
            re.compile(pattern)
            regex.compile(pattern)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            return f"pattern {pattern[:100]!r} is no regular expression: {error}"
    if _uses(schema, "patternProperties"):
        return "patternProperties cannot be limited in time and is not supported; name the properties"
    far = next((ref for ref in _references(schema) if not ref.startswith("#")), None)
    return None if far is None else f"$ref {far[:100]!r} leads to another document; write it out"


def read_cases(path: str | Path, schema: RowSchema | None = None, name: str = "") -> list[Case]:
    """All rows of a JSONL file; `name` is what its user calls it. Raises DataError with the line numbers of all faults."""
    complaints = Complaints(name or str(path))
    cases: list[Case] = []
    for line, row in read_objects(path, complaints):
        case = _case(row, len(cases), line, complaints)
        if case is None:
            continue
        fault = schema.fault(case.item) if schema else None
        if fault:
            complaints.add(line, fault[0], f"{fault[1]}; change the row, or the eval's item_schema")
        cases.append(case)
    complaints.raise_if_any()
    return cases


def cases_of(rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Any] | None]]) -> list[Case]:
    """Cases of (item, sample) pairs."""
    return [Case(position, item, sample) for position, (item, sample) in enumerate(rows)]


def completion_of(sample: Mapping[str, Any] | None) -> Completion:
    """The answer that a row brought along, as graders see it: what it did not bring is missing, not empty."""
    if sample is None:
        return Completion((), (), (), "stop", "", given=NOTHING)
    message: Mapping[str, Any] = {}
    choices = sample.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) and isinstance(choices[0].get("message"), Mapping):
        message = choices[0]["message"]
    text = sample.get("output_text", message.get("content"))
    tools = sample.get("output_tools", message.get("tool_calls"))
    calls = tuple(call for call in tools if isinstance(call, Mapping)) if isinstance(tools, list) else ()
    answer = text if isinstance(text, str) else ""
    given = {**({} if isinstance(text, str) else {"output_text": None, "output_json": None}), **sample}
    return Completion((), (), (), "stop", answer, tool_calls=calls, given=given)


class Prompter:
    """`input_messages` of a data source: the messages that each item becomes."""

    def __init__(self, spec: InputMessages, path: str = "data_source.input_messages") -> None:
        """Raises GraderError with the JSON path of a template that can never work."""
        if isinstance(spec, ItemReference):
            self._reference: Variable | None = _reference(spec.item_reference, f"{path}.item_reference")
            self._template: JudgeInput | None = None
        else:
            self._template = JudgeInput(spec.template, f"{path}.template")
            self._reference = None

    def messages(self, item: Mapping[str, Any]) -> list[Message]:
        """In the shape of chat completions. Raises GradingFailed("invalid_variable_error") where the item lacks what is named."""
        scope = {"item": item, "sample": {}}
        if self._template is not None:
            return list(self._template.render(scope))
        assert self._reference is not None
        found = self._reference.resolve(scope)
        if isinstance(found, str):
            return [{"role": "user", "content": found}]
        if not isinstance(found, list) or not found or not all(isinstance(message, Mapping) and "role" in message for message in found):
            said = f"{{{{ {self._reference.text} }}}} is {kind(found)}, not a list of messages"
            raise GradingFailed("invalid_variable_error", said)
        return found


def _case(row: Mapping[str, Any], position: int, line: int, complaints: Complaints) -> Case | None:
    if "item" not in row and "messages" in row:
        return Case(position, row, None, line)
    before = complaints.total
    item, sample = row.get("item"), row.get("sample")
    if not isinstance(item, dict):
        what = kind(item) if "item" in row else "missing"
        complaints.add(line, "item", f'{what}; write each row as {{"item": {{...}}}}')
    if sample is not None and not isinstance(sample, dict):
        complaints.add(line, "sample", f'{kind(sample)}, not an object; write {{"output_text": "..."}}, or leave it out')
    unknown = sorted(set(row) - {"item", "sample"})
    if unknown:
        complaints.add(line, unknown[0], 'unknown key beside "item" and "sample"; move it into "item"')
    return None if complaints.total > before else Case(position, item or {}, sample, line)


def _reference(text: str, path: str) -> Variable:
    parts: Sequence[str | Variable] = Template.parse(f"{{{{{text}}}}}", path).parts
    if len(parts) != 1 or not isinstance(parts[0], Variable):
        raise GraderError(f"{path}: write one variable, such as item.messages, without braces")
    return parts[0]


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping) and isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    for value in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _patterns(value)


def _uses(schema: Any, keyword: str) -> bool:
    values = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    return (isinstance(schema, Mapping) and isinstance(schema.get(keyword), Mapping)) or any(_uses(value, keyword) for value in values)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)

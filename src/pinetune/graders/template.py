"""OpenAI's template language and the `sample` a grader sees: `{{ item.answer }}`, `{{ sample.output_json.genes[0] }}`.

Only `{{ ... }}` is template; single braces and JSON in a text stay as they are. There are no filters, loops or
conditionals. The namespaces are `item` (the whole dataset row) and `sample` (the model's answer). A sample is made
of the answer only: the chain of thought never reaches a grader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pinetune.errors import GraderError, GradingFailed
from pinetune.records import Completion, Row

NAMESPACES = ("item", "sample")
NAME = re.compile(r"""\.([^.\[\]{}"'|()+*=<>]+)""")  # a key with one of these is written ["key"]: else a filter would pass as a key
INDEX = re.compile(r"""\[\s*(?:([0-9]{1,9})|"([^"]*)"|'([^']*)')\s*\]""")
WHY_NONE: dict[str | int, str] = {"output_json": ": the answer is no JSON, or the job has no response_format"}
SAMPLE_KEYS = ("output_text", "output_json", "output_tools", "output_audio", "choices")


class _Sample(dict[str, Any]):
    """The `sample` of one answer, each value made when it is first asked for: most templates read the text only.

    A dict that knows only what was asked; `whole` has everything.
    """

    __slots__ = ("_completion", "_json_answers")

    def __init__(self, completion: Completion, json_answers: bool) -> None:
        self._completion = completion
        self._json_answers = json_answers
        given = completion.given
        self["output_text"] = completion.answer if given is None else given.get("output_text", completion.answer)

    def __missing__(self, key: str) -> Any:
        self[key] = value = self._make(key)
        return value

    def _make(self, key: str) -> Any:
        completion = self._completion
        if completion.given is not None and key in completion.given:
            return completion.given[key]
        if key == "output_json":
            return _parsed_once(completion.answer) if self._json_answers else None
        if key == "output_tools":
            return [dict(call) for call in completion.tool_calls]
        if key == "output_audio":
            return None  # no model here speaks
        if key == "choices":
            message = {"role": "assistant", "content": completion.answer, "tool_calls": self["output_tools"]}
            finish = "tool_calls" if completion.tool_calls else completion.finish
            return [{"index": 0, "message": message, "finish_reason": finish}]
        raise KeyError(key)

    def whole(self) -> dict[str, Any]:
        """All of it, for whoever may change what it gets."""
        given = self._completion.given or {}
        if self._json_answers and "output_json" not in given:
            self["output_json"] = _parsed(self["output_text"])
        return {**{key: self[key] for key in SAMPLE_KEYS}, **given}


def scope_of(completion: Completion, row: Row, *, json_answers: bool) -> dict[str, Mapping[str, Any]]:
    """What templates read: `item` is the whole row, `sample` the answer (see `sample_of` for `json_answers`)."""
    return {"item": row.item, "sample": _Sample(completion, json_answers)}


def sample_of(completion: Completion, *, json_answers: bool) -> dict[str, Any]:
    """The `sample` of OpenAI's graders: output_text, output_json, output_tools, output_audio, choices.

    `json_answers` is True where the job has a `response_format` (and in `graders/run`): then `output_json` holds the
    parsed answer, or None where the answer is no JSON. `output_tools` are the chat-completions tool calls, whose
    `function.arguments` is a string.
    """
    return _Sample(completion, json_answers).whole()


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")  # Python alone would take NaN and Infinity


DECODER = json.JSONDecoder(parse_constant=_refuse)  # made once: json.loads would make one a call


def _parsed(text: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


# The parts of a multi read the same answer one after the other; templates only read what they are given. 32: a few a thread.
_parsed_once = lru_cache(maxsize=32)(_parsed)


@dataclass(frozen=True, slots=True)
class Variable:
    """`item.a[0].b` as a namespace and the keys and indices to follow from it."""

    text: str
    namespace: str
    steps: tuple[str | int, ...]

    def resolve(self, scope: Mapping[str, Any]) -> Any:
        """The value; raises GradingFailed("invalid_variable_error") where a step leads nowhere."""
        value = scope[self.namespace]
        if not self.steps:
            return value.whole() if isinstance(value, _Sample) else dict(value)
        for depth, step in enumerate(self.steps):
            value = _follow(value, step, self.text)
            # An answer without JSON or audio has no such key on the hosted product: missing, not the word "null".
            if value is None and depth == 0 and self.namespace == "sample":
                said = f"{_shown(self.text)}: this answer has no sample.{step}{WHY_NONE.get(step, '')}"
                raise GradingFailed("invalid_variable_error", said)
        return value


def _follow(value: Any, step: str | int, text: str) -> Any:
    if isinstance(step, int):
        if isinstance(value, (list, tuple)) and step < len(value):
            return value[step]
        have = f"it has {len(value)} entries" if isinstance(value, (list, tuple)) else f"it is {_kind(value)}, not a list"
        raise GradingFailed("invalid_variable_error", f"{_shown(text)}: no entry [{step}]: {have}")
    if isinstance(value, (dict, Mapping)):  # dict first: asking the abstract class costs more than all the rest
        try:
            return value[step]
        except KeyError:
            known = SAMPLE_KEYS if isinstance(value, _Sample) else sorted(str(key) for key in value)
            there = f"no field {step!r}; there are: {', '.join(known[:12]) or 'none'}"
            raise GradingFailed("invalid_variable_error", f"{_shown(text)}: {there}") from None
    raise GradingFailed("invalid_variable_error", f"{_shown(text)}: no field {step!r}: the value there is {_kind(value)}")


def _shown(text: str) -> str:
    """The variable in a message: whole where a person wrote it, cut where a machine did."""
    return f"{{{{ {text if len(text) <= 100 else text[:100] + '...'} }}}}"


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with variables, parsed once.

    >>> Template.parse("{{ item.name }}!", "input").render({"item": {"name": "TSC2"}, "sample": {}})
    'TSC2!'
    """

    parts: tuple[str | Variable, ...]

    @classmethod
    def parse(cls, text: str, where: str) -> Template:
        """`where` is the JSON path of the text in the grader; raises GraderError for a variable that can never exist."""
        # By find, not by one regular expression: those go back and forth for hours in a long text of braces or spaces.
        parts: list[str | Variable] = []
        end = 0
        while (start := text.find("{{", end)) >= 0 and (close := text.find("}}", start + 2)) >= 0:
            parts += [text[end:start], _variable(text[start + 2 : close].strip(), where)]
            end = close + 2
        parts.append(text[end:])
        return cls(tuple(part for part in parts if part != ""))

    def render(self, scope: Mapping[str, Any]) -> str:
        """`scope` is {"item": ..., "sample": ...}; raises GradingFailed("invalid_variable_error")."""
        return "".join(part if isinstance(part, str) else as_text(part.resolve(scope)) for part in self.parts)


def as_text(value: Any) -> str:
    """A value inside a text: strings as they are, everything else as JSON (`true`, `null`, `["a", 1]`)."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise GradingFailed("invalid_variable_error", "the value is nested too deeply to be written as text") from None
    except (TypeError, ValueError) as error:
        raise GradingFailed("invalid_variable_error", f"the value cannot be written as text: {error}") from None


def _variable(text: str, where: str) -> Variable:
    namespace = re.match(r"[A-Za-z_]*", text).group()  # type: ignore[union-attr]  # matches the empty string too
    if namespace not in NAMESPACES:
        raise GraderError(f"{where}: {_shown(text)}: a variable starts with item. or sample., as in {{{{ item.answer }}}}")
    steps: list[str | int] = []
    position = len(namespace)
    while position < len(text):
        match = NAME.match(text, position) or INDEX.match(text, position)
        step = _step(match) if match else ""
        if match is None or (step == "" and match.re is NAME):
            rest = text[position : position + 40]
            raise GraderError(
                f"{where}: {_shown(text)}: cannot read {rest!r}; use dots and [index], as in item.a[0].b; there are no filters or sums"
            )
        steps.append(step)
        position = match.end()
    return Variable(text, namespace, tuple(steps))


def _step(match: re.Match[str]) -> str | int:
    if match.re is NAME:
        return match.group(1).strip()
    index, double, single = match.groups()
    return int(index) if index is not None else double if double is not None else single

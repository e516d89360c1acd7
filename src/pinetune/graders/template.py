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
from typing import Any

from pinetune.errors import GraderError, GradingFailed
from pinetune.records import Completion

NAMESPACES = ("item", "sample")
EXPRESSION = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
STEP = re.compile(r"""\.\s*([^.\[\]{}"']+?)\s*(?=[.\[]|$)|\[\s*(?:(\d+)|"([^"]*)"|'([^']*)')\s*\]""")


def sample_of(completion: Completion, *, json_answers: bool) -> dict[str, Any]:
    """The `sample` of OpenAI's graders: output_text, output_json, output_tools, choices, output_audio.

    `json_answers` is True where the job has a `response_format` (and in `graders/run`): then `output_json` holds the
    parsed answer, or None where the answer is no JSON.
    """
    message = {"role": "assistant", "content": completion.answer, "tool_calls": []}
    return {
        "output_text": completion.answer,
        "output_json": _parsed(completion.answer) if json_answers else None,
        "output_tools": message["tool_calls"],
        "output_audio": None,
        "choices": [{"index": 0, "message": message, "finish_reason": completion.finish}],
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Variable:
    """`item.a[0].b` as a namespace and the keys and indices to follow from it."""

    text: str
    namespace: str
    steps: tuple[str | int, ...]

    def resolve(self, scope: Mapping[str, Any]) -> Any:
        """The value; raises GradingFailed("invalid_variable_error") where a step leads nowhere."""
        value = scope[self.namespace]
        for depth, step in enumerate(self.steps):
            value = _follow(value, step, self.text)
            # An answer without JSON or audio has no such key on the hosted product: missing, not the word "null".
            if value is None and depth == 0 and self.namespace == "sample":
                raise GradingFailed("invalid_variable_error", f"{{{{ {self.text} }}}}: this answer has no sample.{step}")
        return value


def _follow(value: Any, step: str | int, text: str) -> Any:
    if isinstance(step, int):
        if isinstance(value, (list, tuple)) and step < len(value):
            return value[step]
        have = f"it has {len(value)} entries" if isinstance(value, (list, tuple)) else f"it is {_kind(value)}, not a list"
        raise GradingFailed("invalid_variable_error", f"{{{{ {text} }}}}: no entry [{step}]: {have}")
    if isinstance(value, Mapping):
        if step in value:
            return value[step]
        keys = ", ".join(sorted(str(key) for key in value)[:12])
        raise GradingFailed("invalid_variable_error", f"{{{{ {text} }}}}: no field {step!r}; there are: {keys or 'none'}")
    raise GradingFailed("invalid_variable_error", f"{{{{ {text} }}}}: no field {step!r}: the value there is {_kind(value)}")


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
        parts: list[str | Variable] = []
        end = 0
        for match in EXPRESSION.finditer(text):
            parts += [text[end : match.start()], _variable(match.group(1), where)]
            end = match.end()
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


def _variable(text: str, where: str) -> Variable:
    namespace = re.match(r"[A-Za-z_]*", text).group()  # type: ignore[union-attr]  # matches the empty string too
    if namespace not in NAMESPACES:
        raise GraderError(f"{where}: {{{{ {text} }}}}: a variable starts with item. or sample., as in {{{{ item.answer }}}}")
    steps: list[str | int] = []
    position = len(namespace)
    while position < len(text):
        match = STEP.match(text, position)
        if match is None:
            raise GraderError(f"{where}: {{{{ {text} }}}}: cannot read {text[position:]!r}; use dots and [index], as in item.a[0].b")
        name, index, double, single = match.groups()
        steps.append(int(index) if index is not None else next(part for part in (name, double, single) if part is not None))
        position = match.end()
    return Variable(text, namespace, tuple(steps))

"""How models write tool calls: a table of formats, told apart by the chat template's text.

Each format knows three things: the grammar of a call (for `tool_choice` required), the mark with which calls begin (so that a
stream holds them back), and how to read them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinetune.wire.chat import FunctionCall, ToolCall

MOST_CALLS = 8  # in one answer, where calls are enforced: weak models would go on for ever
Tool = Mapping[str, Any]  # {"name", "description", "parameters"}


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way to write calls. `sign` is what its chat templates contain; `begin` and `end` stand around the JSON."""

    name: str
    sign: str
    begin: str
    end: str
    arguments: str  # the JSON key of the arguments
    many: bool = False  # one JSON list of calls, where others repeat the whole
    bare: bool = False  # the JSON may also come without the mark

    def parse(self, text: str, known: Sequence[str]) -> tuple[str, list[ToolCall]]:
        """The text without its calls, and the calls of known tools. What cannot be read as a call stays text."""
        if self.bare and text.lstrip().startswith(("{", "[")):
            calls = _calls(text.strip().replace("; {", ",{"), self.arguments, known)
            if calls:
                return "", calls
        kept, found = [], []
        rest = text
        while self.begin and (place := rest.find(self.begin)) >= 0:
            body_from = place + len(self.begin)
            close = rest.find(self.end, body_from) if self.end else len(rest)
            close = len(rest) if close < 0 else close
            calls = _calls(rest[body_from:close], self.arguments, known)
            kept.append(rest[:place] if calls else rest[: close + len(self.end)])
            found += calls
            rest = rest[close + len(self.end) :]
        return "".join([*kept, rest]).strip() if found else text, found

    def holds_back(self, text: str) -> int:
        """Where in `text`, the answer so far, something starts that may become a call; len(text) when nothing does."""
        if self.bare and text.lstrip()[:1] in ("{", "["):
            return 0
        if not self.begin:
            return len(text)
        place = text.find(self.begin)
        if place >= 0:
            return len(text[:place].rstrip())
        longest = min(len(text), len(self.begin) - 1)
        overlap = next((size for size in range(longest, 0, -1) if text.endswith(self.begin[:size])), 0)
        return len(text[: len(text) - overlap].rstrip()) if overlap else len(text)

    def grammar(
        self,
        tools: Sequence[Tool],
        literal: Callable[[str], str],
        *,
        parallel: bool,
        answer: Mapping[str, Any] | None,
        whitespace: str,
    ) -> str:
        """A Lark grammar (llguidance's dialect) of one or more calls, or of an answer that fits the schema `answer`.

        `literal` writes a mark as the tokenizer knows it (special tokens are not plain text). `whitespace` is what JSON may
        have between its signs.
        """

        def embed(schema: Mapping[str, Any]) -> str:
            return f"%json {json.dumps({**schema, 'x-guidance': {'whitespace_pattern': whitespace}})}"

        call = {"anyOf": [self._schema(tool) for tool in tools]} if len(tools) > 1 else self._schema(tools[0])
        begin = literal(self.begin) + " " if self.begin and not self.bare else ""
        if self.many:
            listed = {"type": "array", "items": call, "minItems": 1, "maxItems": MOST_CALLS if parallel else 1}
            lines = [f"calls: {begin}{embed(listed)}"]
        elif self.end:
            again = rf' ("\n" call){{0,{MOST_CALLS - 1}}}' if parallel else ""
            lines = [f"calls: call{again}", rf'call: {begin}"\n" {embed(call)} "\n" {literal(self.end)}']
        else:
            lines = [f"calls: {begin}{embed(call)}"]
        start = "start: calls" if answer is None else f"start: calls | answer\nanswer: {embed(answer)}"
        return "\n".join([start, *lines])

    def _schema(self, tool: Tool) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"name": {"const": tool["name"]}, self.arguments: tool.get("parameters") or {"type": "object"}},
            "required": ["name", self.arguments],
            "additionalProperties": False,
        }

    def instruction(self, tools: Sequence[Tool]) -> str:
        """What a template that knows no tools must be told."""
        listed = "\n".join(json.dumps(dict(tool), ensure_ascii=False) for tool in tools)
        example = f'{self.begin}\n{{"name": <function-name>, "{self.arguments}": <args-json-object>}}\n{self.end}'.strip()
        return f"You may call these functions:\n{listed}\nTo call one, write:\n{example}"

    def write(self, call: ToolCall) -> str:
        """A call as the model would have written it, for templates that show no `tool_calls`."""
        body = json.dumps({"name": call.function.name, self.arguments: arguments_of(call)}, ensure_ascii=False)
        return f"{self.begin}\n{body}\n{self.end}" if self.end else f"{self.begin}{body}"


MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", begin="[TOOL_CALLS]", end="", arguments="arguments", many=True)
LLAMA3 = ToolFormat("llama3", '"parameters": dictionary', begin="<|python_tag|>", end="", arguments="parameters", bare=True)
HERMES = ToolFormat("hermes", "<tool_call>", begin="<tool_call>", end="</tool_call>", arguments="arguments")
FORMATS = (MISTRAL, LLAMA3, HERMES)  # the last one is also for templates that know no tools


def format_of(template: str) -> ToolFormat:
    return next((form for form in FORMATS if form.sign in template), HERMES)


def arguments_of(call: ToolCall) -> Any:
    """The arguments as an object, which templates print themselves; as they are when they are no JSON."""
    try:
        return json.loads(call.function.arguments or "{}")
    except ValueError:
        return call.function.arguments


def _calls(text: str, key: str, known: Sequence[str]) -> list[ToolCall]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls = []
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict) or one.get("name") not in known:
            return []
        arguments = one.get(key, one.get("parameters", one.get("arguments", {})))
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        # `type` is said aloud: replies leave out what was not set.
        calls.append(
            ToolCall(id=f"call_{secrets.token_hex(12)}", type="function", function=FunctionCall(name=one["name"], arguments=written))
        )
    return calls

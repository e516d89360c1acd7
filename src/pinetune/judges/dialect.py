"""What an endpoint understands, learned by asking: the ways to demand JSON, and the settings a model refuses.

OpenAI takes `json_schema`; older and smaller servers take `json_object`, or nothing at all: then the schema stands in
the prompt. The first way that gives JSON is kept for the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pinetune.graders.ask import AskRequest
from pinetune.records import Message

FORMS = ("json_schema", "json_object", "text")
INSTRUCTION = "Answer with one JSON object and nothing else. It must match this JSON schema:\n"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to put a question to one model."""

    form: str = "json_schema"
    dropped: frozenset[str] = frozenset()  # settings the model refuses
    old_max_tokens: bool = False  # knows max_tokens, not max_completion_tokens
    proven: bool = False  # gave JSON in this form before

    def body(self, request: AskRequest, model: str) -> dict[str, Any]:
        """The arguments of `chat.completions.create`."""
        params = {name: value for name, value in request.params.items() if name not in self.dropped}
        if self.old_max_tokens and "max_completion_tokens" in params:
            params["max_tokens"] = params.pop("max_completion_tokens")
        messages: Sequence[Message] = [_known_role(message) for message in request.messages]
        if request.schema is not None and self.form != "json_schema":
            messages = with_instruction(messages, request.schema)
        body = {"model": model, "messages": list(messages), **params}
        if request.schema is not None and self.form == "json_schema":
            schema = {"name": request.schema_name or "answer", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif request.schema is not None and self.form == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def after_refusal(self, complaint: str, request: AskRequest) -> Dialect | None:
        """Another way to ask, when the server refused this one as a bad request; None when there is none."""
        for name in request.params:
            if name in complaint and name not in self.dropped:
                if name == "max_completion_tokens" and not self.old_max_tokens:
                    return replace(self, old_max_tokens=True)
                return replace(self, dropped=self.dropped | {name})
        return self.plainer(request)

    def joined(self, other: Dialect) -> Dialect:
        """What two questions learned about one model: the strictest way that gave JSON, and all that it refuses."""
        proven = [dialect for dialect in (self, other) if dialect.proven]
        form = min((dialect.form for dialect in proven), key=FORMS.index, default=self.form)
        return Dialect(form, self.dropped | other.dropped, self.old_max_tokens or other.old_max_tokens, bool(proven))

    def plainer(self, request: AskRequest) -> Dialect | None:
        """The next way to demand JSON."""
        if request.schema is None or self.form == FORMS[-1]:
            return None
        return replace(self, form=FORMS[FORMS.index(self.form) + 1], proven=False)


def with_instruction(messages: Sequence[Message], schema: Mapping[str, Any]) -> list[Message]:
    """The schema as words, in the system message at the front: where the answer to be judged does not stand."""
    words = INSTRUCTION + json.dumps(schema, ensure_ascii=False)
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def _known_role(message: Message) -> Message:
    """OpenAI reads "system" as "developer" where it must; other servers know "system" only."""
    return {**message, "role": "system"} if message["role"] == "developer" else message

"""Responses: a request becomes a turn, its events become the typed events of a stream and, in the end, the response.

One state machine serves both: a reply that is not streamed runs through the same events and keeps only the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pinetune.records import Completion
from pinetune.serving.directory import Kept
from pinetune.serving.ids import new_id, now
from pinetune.serving.items import Item, call_item, message_item, reasoning_item, text_part, to_messages
from pinetune.serving.sample import Delta, Sample, spelled
from pinetune.serving.turn import Shown, Turn, choose, unique_tools
from pinetune.wire.errors import ApiProblem
from pinetune.wire.responses import (
    InputTokensRequest,
    JsonObjectText,
    JsonSchemaText,
    ResponseRequest,
    ToolChoiceAllowed,
    ToolChoiceFunction,
)
from pinetune.wire.several import Chosen

if TYPE_CHECKING:
    from pinetune.serving.engine import Event
    from pinetune.serving.several import Picked

LOGPROBS = "message.output_text.logprobs"


def to_turn(request: ResponseRequest | InputTokensRequest, items: Sequence[Item]) -> Turn:
    """The turn of a request whose whole conversation is `items`. Raises ApiProblem."""
    messages = to_messages(items, request.instructions)
    if not messages:
        raise ApiProblem(400, "input is missing; give a text or a list of items", code="missing_required_parameter", param="input")
    tools = unique_tools([tool.model_dump(exclude_none=True, exclude={"strict", "type"}) for tool in request.tools or []])
    shape = request.text.format if request.text else None
    schema: Mapping[str, Any] | None = {"type": "object"} if isinstance(shape, JsonObjectText) else None
    schema = shape.schema_ if isinstance(shape, JsonSchemaText) else schema
    effort = request.reasoning.effort if request.reasoning else None
    turn = Turn(messages, tools, parallel=request.parallel_tool_calls is not False, schema=schema, effort=effort)
    turn = _choose(turn, request)
    return _sampling(turn, request) if isinstance(request, ResponseRequest) else turn


def _choose(turn: Turn, request: ResponseRequest | InputTokensRequest) -> Turn:
    choice = request.tool_choice
    if isinstance(choice, ToolChoiceFunction):
        return choose(turn, "required", [choice.name])
    if isinstance(choice, ToolChoiceAllowed):
        return choose(turn, choice.mode, [str(tool.get("name")) for tool in choice.tools])
    return choose(turn, choice or "auto")


def _sampling(turn: Turn, request: ResponseRequest) -> Turn:
    wants_logprobs = LOGPROBS in (request.include or []) or bool(request.top_logprobs)
    return replace(
        turn,
        max_tokens=request.max_output_tokens,
        max_tokens_name="max_output_tokens",
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=request.seed,
        top_logprobs=(request.top_logprobs or 0) if wants_logprobs else None,
    )


class Reply:
    """A response under way. `items` are the request's own input items."""

    def __init__(self, request: ResponseRequest, turn: Turn, shown: Shown, items: Sequence[Item]) -> None:
        self.request, self.turn, self.shown, self.items = request, turn, shown, items
        self.id, self.created = new_id("resp_"), now()
        self.started = False
        self._sample = Sample(turn, shown)
        self._output: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None  # the item under way
        self._text = ""  # of the item under way
        self._numbers = 0
        self._input_tokens = self._output_tokens = self._reasoning_tokens = 0
        self._status = "queued" if request.background else "in_progress"
        self._completed: int | None = None
        self._error: dict[str, Any] | None = None
        self._about: Chosen | None = None

    @classmethod
    def of_picked(cls, request: ResponseRequest, turn: Turn, items: Sequence[Item], picked: Picked) -> Reply:
        """The reply of an answer that was chosen from several; all of them are paid for."""
        reply = cls(request, turn, picked.shown, items)
        for event in picked.events:
            reply.take(event)
        reply._output_tokens, reply._reasoning_tokens, reply._about = picked.output_tokens, picked.reasoning_tokens, picked.about
        return reply

    @property
    def _summarised(self) -> bool:
        asked = self.request.reasoning
        return bool(asked and (asked.summary or asked.generate_summary))

    # ---- events

    def take(self, event: Event) -> list[dict[str, Any]]:
        """The stream's events that this one is worth."""
        from pinetune.serving.engine import Done, News, Started

        if isinstance(event, Started):
            self.started, self._input_tokens, self._status = True, event.prompt_tokens, "in_progress"
            return [self._event("response.created", response=self.body()), self._event("response.in_progress", response=self.body())]
        if isinstance(event, News):
            return self._grow(self._sample.grow(event.piece))
        assert isinstance(event, Done)
        return self._end(event.completion)

    def fail(self, problem: ApiProblem) -> list[dict[str, Any]]:
        """The end of a response whose model failed after the first event."""
        self._status, self._error = "failed", {"code": "server_error", "message": problem.message}
        return [self._event("response.failed", response=self.body())]

    def show(self, shown: Shown) -> None:
        """A background reply is made before its turn is handed in."""
        self.shown = shown
        self._sample = Sample(self.turn, shown)

    def cancel(self) -> None:
        self._status = "cancelled"

    def _grow(self, delta: Delta) -> list[dict[str, Any]]:
        events = []
        if delta.reasoning:
            events += self._open("reasoning") + self._more_reasoning(delta.reasoning)
        if delta.content:
            events += self._open("message") + self._more_text(delta)
        return events

    def _end(self, completion: Completion) -> list[dict[str, Any]]:
        self._output_tokens, self._reasoning_tokens = len(completion.token_ids), completion.reasoning_tokens
        whole = completion.finish == "stop"
        events = self._grow(self._sample.end(completion))
        if whole and not self._sample.calls and not (self._item and self._item["type"] == "message"):
            events += self._open("message")  # an empty answer is an answer
        events += self._close("completed" if whole else "incomplete")
        for call in self._sample.calls:
            events += self._call(call_item(call))
        self._status, self._completed = ("completed", now()) if whole else ("incomplete", None)
        return [*events, self._event(f"response.{self._status}", response=self.body())]

    def _open(self, kind: str) -> list[dict[str, Any]]:
        if self._item is not None and self._item["type"] == kind:
            return []
        events, self._text = self._close(), ""
        if kind == "reasoning":
            self._item = {**reasoning_item("", False, status="in_progress"), "content": []}
            part = {"type": "summary_text" if self._summarised else "reasoning_text", "text": ""}
        else:
            self._item = {**message_item("", [], status="in_progress"), "content": []}
            part = text_part("")
        events.append(self._event("response.output_item.added", output_index=len(self._output), item=dict(self._item)))
        added = "response.reasoning_summary_part.added" if part["type"] == "summary_text" else "response.content_part.added"
        return [*events, self._event(added, **self._place(part["type"]), part=part)]

    def _more_reasoning(self, text: str) -> list[dict[str, Any]]:
        self._text += text
        kind = "summary_text" if self._summarised else "reasoning_text"
        name = "response.reasoning_summary_text.delta" if self._summarised else "response.reasoning_text.delta"
        return [self._event(name, **self._place(kind), delta=text)]

    def _more_text(self, delta: Delta) -> list[dict[str, Any]]:
        self._text += delta.content
        logprobs = spelled(delta.tokens, self.shown)
        return [self._event("response.output_text.delta", **self._place("output_text"), delta=delta.content, logprobs=logprobs)]

    def _close(self, status: str = "completed") -> list[dict[str, Any]]:
        """Finish the item under way; its final form joins the output."""
        if self._item is None:
            return []
        item_id, text = self._item["id"], self._text
        if self._item["type"] == "reasoning":
            done = reasoning_item(text, self._summarised, item_id, status)
            kind = "summary_text" if self._summarised else "reasoning_text"
            names = ("reasoning_summary_text", "reasoning_summary_part") if self._summarised else ("reasoning_text", "content_part")
            part, more = {"type": kind, "text": text}, {}
        else:
            logprobs = spelled(self._sample.tokens, self.shown)
            done, kind, names = message_item(text, logprobs, item_id, status), "output_text", ("output_text", "content_part")
            part, more = text_part(text, logprobs), {"logprobs": logprobs}
        events = [
            self._event(f"response.{names[0]}.done", **self._place(kind), text=text, **more),
            self._event(f"response.{names[1]}.done", **self._place(kind), part=part),
            self._event("response.output_item.done", output_index=len(self._output), item=done),
        ]
        self._output.append(done)
        self._item, self._text = None, ""
        return events

    def _call(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        place = {"item_id": item["id"], "output_index": len(self._output)}
        self._output.append(item)
        started = {**item, "arguments": "", "status": "in_progress"}
        return [
            self._event("response.output_item.added", output_index=place["output_index"], item=started),
            self._event("response.function_call_arguments.delta", **place, delta=item["arguments"]),
            self._event("response.function_call_arguments.done", **place, name=item["name"], arguments=item["arguments"]),
            self._event("response.output_item.done", output_index=place["output_index"], item=item),
        ]

    def _place(self, kind: str) -> dict[str, Any]:
        assert self._item is not None
        index = "summary_index" if kind == "summary_text" else "content_index"
        return {"item_id": self._item["id"], "output_index": len(self._output), index: 0}

    def _event(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        number, self._numbers = self._numbers, self._numbers + 1
        return {"type": kind, "sequence_number": number, **fields}

    # ---- the response

    def body(self) -> dict[str, Any]:
        """The response as it stands."""
        request = self.request
        reasoning = request.reasoning
        text = request.text.model_dump(by_alias=True, exclude_none=True) if request.text else {}
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self._status,
            "background": bool(request.background),
            "completed_at": self._completed,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if self._status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": request.max_tool_calls,
            "metadata": request.metadata or {},
            "model": request.model,
            "output": list(self._output),
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": request.previous_response_id,
            "prompt_cache_key": request.prompt_cache_key,
            "reasoning": {
                "effort": reasoning.effort if reasoning else None,
                "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
            },
            "safety_identifier": request.safety_identifier,
            "service_tier": "default",
            "store": request.store is not False,
            "temperature": self.turn.temperature,
            "text": {"verbosity": "medium", **text, "format": text.get("format") or {"type": "text"}},
            "tool_choice": _shown_choice(request),
            "tools": [{"description": None, "parameters": None, "strict": None, **tool.model_dump()} for tool in request.tools or []],
            "top_logprobs": request.top_logprobs or 0,
            "top_p": self.turn.top_p,
            "truncation": request.truncation or "disabled",
            "usage": self._usage() if self._status in ("completed", "incomplete") else None,
            "user": request.user,
            **({} if self._about is None else {"pinetune": self._about}),
        }

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self._input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self._output_tokens,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens},
            "total_tokens": self._input_tokens + self._output_tokens,
        }

    def kept(self) -> Kept:
        request = self.request.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"input", "metadata", "stream"})
        return Kept(
            self.id, "response", self.created, self.request.model, self.body(), list(self.items), request,
            self.request.metadata, self.request.previous_response_id,
        )  # fmt: skip


def _shown_choice(request: ResponseRequest) -> Any:
    choice = request.tool_choice
    return "auto" if choice is None else choice if isinstance(choice, str) else choice.model_dump()

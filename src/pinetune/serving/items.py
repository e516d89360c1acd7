"""Items of the Responses API: a request's input made uniform, and items read as the messages a chat template knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pinetune.serving.ids import new_id
from pinetune.serving.turn import Message
from pinetune.wire.chat import FunctionCall, ToolCall
from pinetune.wire.errors import ApiProblem
from pinetune.wire.responses import InputItem, ItemPart

Item = Mapping[str, Any]
TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal")


def uniform(given: str | Sequence[InputItem] | None, find: Callable[[str], Item | None] = lambda _: None) -> list[Item]:
    """The input as items in the form in which they are stored and listed. `find` looks up what an item_reference names.

    Raises ApiProblem for what this server cannot read.
    """
    if given is None:
        return []
    if isinstance(given, str):
        return [_message("user", given, None)]
    return [item for place, one in enumerate(given) for item in _uniform(one, f"input.{place}", find)]


def _uniform(item: InputItem, where: str, find: Callable[[str], Item | None]) -> list[Item]:
    if item.type == "message":
        return _messages(item, where)
    if item.type == "function_call":
        call_id, name = _needed(item.call_id, f"{where}.call_id"), _needed(item.name, f"{where}.name")
        return [call_item(ToolCall(id=call_id, function=FunctionCall(name=name, arguments=item.arguments or "{}")), item.id)]
    if item.type == "function_call_output":
        return [_output(_needed(item.call_id, f"{where}.call_id"), _text(item.output, f"{where}.output"), item.id)]
    if item.type == "reasoning":
        content = [part for part in item.content if isinstance(part, ItemPart)] if isinstance(item.content, list) else []
        return [reasoning_item(_text(content or item.summary, where), bool(item.summary), item.id)]
    if item.type == "item_reference":
        found = find(item.id or "")
        if found is None:
            raise ApiProblem(404, f"Item with id '{item.id}' not found.", code="item_not_found", param=where)
        return [found]
    raise ApiProblem(
        400,
        f"items of type '{item.type}' cannot be used here: this server knows text and functions",
        code="invalid_value",
        param=f"{where}.type",
    )


def _messages(item: InputItem, where: str) -> list[Item]:
    """A message; a chat message with tool calls, or from a tool, becomes the items that say the same."""
    if item.role is None:
        raise ApiProblem(400, "role is missing; add it", code="missing_required_parameter", param=f"{where}.role")
    if item.content is None and not item.tool_calls:
        raise ApiProblem(400, "content is missing; add it", code="missing_required_parameter", param=f"{where}.content")
    text = _text(item.content, f"{where}.content")
    if item.role == "tool":
        return [_output(_needed(item.tool_call_id, f"{where}.tool_call_id"), text, None)]
    calls = [call_item(call) for call in item.tool_calls or []]
    return [*([_message(item.role, text, item.id)] if text or not calls else []), *calls]


def _message(role: str, text: str, item_id: str | None) -> Item:
    if role == "assistant":
        return message_item(text, [], item_id)
    content = [{"type": "input_text", "text": text}]
    return {"id": item_id or new_id("msg_"), "type": "message", "role": role, "status": "completed", "content": content}


def message_item(text: str, logprobs: Sequence[Any], item_id: str | None = None, status: str = "completed") -> dict[str, Any]:
    """An assistant's message."""
    content = [text_part(text, logprobs)]
    return {"id": item_id or new_id("msg_"), "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def call_item(call: ToolCall, item_id: str | None = None, status: str = "completed") -> dict[str, Any]:
    return {
        "id": item_id or new_id("fc_"),
        "type": "function_call",
        "status": status,
        "arguments": call.function.arguments,
        "call_id": call.id,
        "name": call.function.name,
    }


def _output(call_id: str, text: str, item_id: str | None) -> Item:
    return {"id": item_id or new_id("fco_"), "type": "function_call_output", "status": "completed", "call_id": call_id, "output": text}


def reasoning_item(text: str, summarised: bool, item_id: str | None = None, status: str = "completed") -> dict[str, Any]:
    """The model's own thinking; it also stands in for the summary where one is asked for, as nobody shortens it here."""
    return {
        "id": item_id or new_id("rs_"),
        "type": "reasoning",
        "status": status,
        "summary": [{"type": "summary_text", "text": text}] if summarised else [],
        "content": [{"type": "reasoning_text", "text": text}],
        "encrypted_content": None,
    }


def to_messages(items: Sequence[Item], instructions: str | None) -> tuple[Message, ...]:
    """The conversation: instructions first, reasoning and calls joined to the assistant's message they belong to."""
    messages = [Message("developer", instructions)] if instructions else []
    reasoning: str | None = None
    for item in items:
        last = messages[-1] if messages else None
        if item["type"] == "reasoning":
            reasoning = "".join(part["text"] for part in item["content"] or item["summary"]) or None
        elif item["type"] == "function_call":
            call = ToolCall(id=item["call_id"], function=FunctionCall(name=item["name"], arguments=item["arguments"]))
            if last is not None and last.role == "assistant" and reasoning is None:
                messages[-1] = Message("assistant", last.text, calls=(*last.calls, call), reasoning=last.reasoning)
            else:
                messages.append(Message("assistant", "", calls=(call,), reasoning=reasoning))
            reasoning = None
        elif item["type"] == "function_call_output":
            messages.append(Message("tool", item["output"], call_id=item["call_id"]))
        else:
            text = "".join(part["text"] for part in item["content"])
            messages.append(Message(item["role"], text, reasoning=reasoning if item["role"] == "assistant" else None))
            reasoning = None
    return tuple(messages)


def _text(content: str | Sequence[ItemPart] | None, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for place, part in enumerate(content):
        if part.type not in TEXT_PARTS:
            message = f"content of type '{part.type}': this server reads text only"
            raise ApiProblem(400, message, code="invalid_value", param=f"{where}.{place}")
    return "".join(part.text or part.refusal or "" for part in content)


def _needed(value: str | None, where: str) -> str:
    if value is None:
        raise ApiProblem(400, f"{where.rsplit('.', 1)[1]} is missing; add it", code="missing_required_parameter", param=where)
    return value

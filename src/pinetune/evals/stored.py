"""Rows from what models answered before: chat completions and responses kept with `store: true`.

A row's item has `input` (the messages), `output` (the answer's text), `model`, `metadata` and `id`; the stored answer is the
sample. Without a model to ask, a run grades that answer; with one, it asks `item.input` again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinetune.store import Store
from pinetune.store.rows import Reply
from pinetune.wire.evals import StoredCompletions, StoredResponses

PAGE = 200
Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def stored_rows(store: Store, project: str, wanted: StoredCompletions | StoredResponses, *, before: float) -> Iterator[Pair]:
    """(item, sample) pairs, oldest first. Replies made after `before` are left out: a run taken up again must find the same rows."""
    kind = "chat.completion" if isinstance(wanted, StoredCompletions) else "response"
    # The store's bounds are exclusive, those of the API inclusive; both sides count whole seconds.
    until = before if wanted.created_before is None else min(before, wanted.created_before + 1)
    since = None if wanted.created_after is None else wanted.created_after - 1e-6
    left = wanted.limit if isinstance(wanted, StoredCompletions) else None
    filters: dict[str, Any] = {"model": wanted.model, "metadata": wanted.metadata or {}, "created_after": since, "created_before": until}
    after = None
    while True:
        page = store.replies.list(project, kind, **filters, after=after, limit=PAGE)
        for reply in page.items:
            if isinstance(wanted, StoredResponses) and not _matches(reply, wanted):
                continue
            if left == 0:
                return
            left = None if left is None else left - 1
            yield _completion_row(reply) if kind == "chat.completion" else _response_row(reply)
        if not page.has_more:
            return
        after = page.items[-1].id


def _matches(reply: Reply, wanted: StoredResponses) -> bool:
    body, request = reply.body, reply.request
    effort = (body.get("reasoning") or {}).get("effort")
    checks = [
        wanted.instructions_search is None or wanted.instructions_search.casefold() in str(body.get("instructions") or "").casefold(),
        wanted.reasoning_effort is None or effort == wanted.reasoning_effort,
        wanted.temperature is None or body.get("temperature") == wanted.temperature,
        wanted.top_p is None or body.get("top_p") == wanted.top_p,
        wanted.users is None or (body.get("user") or request.get("user")) in wanted.users,
        wanted.tools is None or bool({_tool_name(tool) for tool in body.get("tools") or []} & set(wanted.tools)),
    ]
    return reply.status != "failed" and all(checks)


def _tool_name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("name") or tool.get("type"))


def _completion_row(reply: Reply) -> Pair:
    choices = reply.body.get("choices") or []
    message = (choices[0].get("message") or {}) if choices else {}
    sample = {"model": reply.model, "input": list(reply.input), "choices": choices, "output_text": message.get("content")}
    sample["output_tools"] = message.get("tool_calls") or []
    return _item(reply, list(reply.input), message.get("content")), sample


def _response_row(reply: Reply) -> Pair:
    output = reply.body.get("output") or []
    parts = [part for item in output if item.get("type") == "message" for part in item.get("content") or []]
    text = "".join(part.get("text") or "" for part in parts)
    calls = [
        {"id": item.get("call_id"), "type": "function", "function": {"name": item.get("name"), "arguments": item.get("arguments")}}
        for item in output
        if item.get("type") == "function_call"
    ]
    instructions = reply.body.get("instructions")
    said = [{"role": "developer", "content": instructions}] if isinstance(instructions, str) and instructions else []
    messages = [*said, *(_message(item) for item in reply.input)]
    choices = [{"index": 0, "message": {"role": "assistant", "content": text, "tool_calls": calls or None}, "finish_reason": "stop"}]
    sample = {"model": reply.model, "input": messages, "choices": choices, "output_text": text, "output_tools": calls}
    return _item(reply, messages, text), sample


def _item(reply: Reply, messages: list[Any], text: Any) -> dict[str, Any]:
    return {"id": reply.id, "input": messages, "output": text, "model": reply.model, "metadata": dict(reply.metadata or {})}


def _message(item: Any) -> Any:
    """An input item of responses as a chat message, where it is one."""
    if not isinstance(item, Mapping) or not isinstance(item.get("content"), list):
        return item
    texts = [part.get("text") for part in item["content"] if isinstance(part, Mapping)]
    return {**item, "content": "".join(map(str, texts))} if all(isinstance(text, str) for text in texts) else item

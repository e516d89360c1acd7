"""Rows of supervised and preference (DPO) jobs: what the model is shown, and the answers it shall give, or prefer.

    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "weight": 1}]}
    {"input": {"messages": [...]}, "preferred_output": [{"role": "assistant", ...}], "non_preferred_output": [...]}

Complaints as in `rows`: file:line: field: what is wrong; what to do, all of a file at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.data.jsonl import Complaints, kind, read_objects
from pinetune.data.rows import MAX_ROWS, Wrong, check_message, check_messages, check_tools
from pinetune.records import Message, Row


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with the better and the worse answer to it; `row.messages` ends before the answer."""

    row: Row
    preferred: Message
    rejected: Message


def load_dialogues(path: str | Path) -> list[Row]:
    """Rows that end with an assistant's message; those with weight 0 are context only. Raises DataError."""
    found = []
    complaints = Complaints(str(path))
    for index, line, item, wrong in _numbered(path, complaints):
        messages = check_messages(item, wrong)
        check_tools(item, wrong)
        _check_answers(messages, wrong)
        found.append(Row(index, tuple(messages), item, tuple(item.get("tools") or ()), line))
    complaints.raise_if_any()
    return found


def load_preferences(path: str | Path) -> list[Preference]:
    """Raises DataError."""
    found = []
    complaints = Complaints(str(path))
    for index, line, item, wrong in _numbered(path, complaints):
        shown = item.get("input")
        if not isinstance(shown, dict):
            what = "missing" if "input" not in item else kind(shown)
            wrong("input", f'{what}; write {{"messages": [...]}} with what the model is asked')
            continue

        def inside(field: str, what: str, wrong: Wrong = wrong) -> None:
            wrong(f"input.{field}", what)

        messages = check_messages(shown, inside)
        check_tools(shown, inside)
        preferred, rejected = (_output(item, name, wrong) for name in ("preferred_output", "non_preferred_output"))
        if preferred and preferred == rejected:
            wrong("non_preferred_output", "is the same answer as preferred_output; a pair must differ, so leave the row out")
        found.append(Preference(Row(index, tuple(messages), item, tuple(shown.get("tools") or ()), line), preferred, rejected))
    complaints.raise_if_any()
    return found


def _numbered(path: str | Path, complaints: Complaints) -> Iterator[tuple[int, int, Mapping[str, Any], Wrong]]:
    """(index, line, object, where to complain) of each line."""
    for index, (line, item) in enumerate(read_objects(path, complaints, MAX_ROWS)):

        def wrong(field: str, what: str, line: int = line) -> None:
            complaints.add(line, field, what)

        yield index, line, item, wrong


def _check_answers(messages: list[Message], wrong: Wrong) -> None:
    if not messages:
        return
    if messages[-1].get("role") != "assistant":
        wrong(f"messages[{len(messages) - 1}].role", "the last message must be the assistant's: it is what the model learns to say")
    elif not any(is_trained(message) for message in messages):
        wrong("messages", "every assistant message has weight 0, so there is nothing to learn; give one of them weight 1")
    for i, message in enumerate(messages):
        weight = message.get("weight", 1)
        if weight not in (0, 1) or isinstance(weight, bool):
            wrong(f"messages[{i}].weight", f"{weight!r}; write 0 (context only) or 1")
        elif "weight" in message and message.get("role") != "assistant":
            wrong(f"messages[{i}].weight", "only assistant messages have a weight; leave it out here")


def is_trained(message: Message) -> bool:
    return message.get("role") == "assistant" and message.get("weight", 1) != 0


def _output(item: Mapping[str, Any], name: str, wrong: Wrong) -> Message:
    output = item.get(name)
    if not isinstance(output, list) or len(output) != 1:
        what = "missing" if name not in item else f"{len(output)} messages" if isinstance(output, list) else kind(output)
        wrong(name, f'{what}; write a list of one assistant message: [{{"role": "assistant", "content": "..."}}]')
        return {}
    message = check_message(output[0], f"{name}[0]", wrong)
    if message and message.get("role") not in ("assistant", None):
        wrong(f"{name}[0].role", f"{message['role']!r}; the answer is the assistant's")
    return message

"""RFT rows: `messages`, optional `tools`, and any further keys, which only the grader sees.

    {"messages": [{"role": "user", "content": "2+2?"}], "reference_answer": "4"}

Every complaint reads `file:line: field: what is wrong; what to do`. A file with faults gives all of them (the first
20 in words) in one DataError, and no rows after the first fault.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pinetune.data.jsonl import Complaints, kind, read_objects
from pinetune.errors import DataError
from pinetune.records import Row

ROLES = ("developer", "system", "user", "assistant", "tool")
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_ROWS = 50_000  # the hosted product's limit for a training file

Wrong = Callable[[str, str], None]  # (field, what is wrong; what to do)


def read_rows(path: str | Path, *, max_rows: int | None = MAX_ROWS) -> Iterator[Row]:
    """Stream the rows of a JSONL file (plain or gzip). Memory is bounded by one line.

    Raises: DataError at the end of the file (or when it cannot be read) with everything found wrong.
    """
    complaints = Complaints(str(path))
    index = 0
    for line, item in read_objects(path, complaints, max_rows):
        row = to_row(item, index, line, complaints)
        if row is not None and not complaints.total:
            yield row
            index += 1
    complaints.raise_if_any()


def load_rows(path: str | Path, *, max_rows: int | None = MAX_ROWS) -> list[Row]:
    """All rows of the file at once; same errors as `read_rows`."""
    return list(read_rows(path, max_rows=max_rows))


def to_row(item: Mapping[str, Any], index: int, line: int, complaints: Complaints) -> Row | None:
    """The row of a parsed object, or None and its faults in `complaints`.

    Content given as text parts becomes one string in `messages`; `item` keeps what was written.
    """
    before = complaints.total

    def wrong(field: str, what: str) -> None:
        complaints.add(line, field, what)

    messages = check_messages(item, wrong)
    _check_ends_with_user(messages, wrong)
    check_tools(item, wrong)
    if complaints.total > before:
        return None
    return Row(index=index, messages=tuple(messages), item=item, tools=tuple(item.get("tools") or ()), line=line)


def check_messages(item: Mapping[str, Any], wrong: Wrong) -> list[Mapping[str, Any]]:
    """The messages with text parts joined; [] and a complaint where there is no list of them."""
    messages = item.get("messages")
    if "messages" not in item:
        wrong("messages", f"missing; {_missing_advice(item)}")
        return []
    if not isinstance(messages, list):
        wrong("messages", f'{kind(messages)}; write a list such as [{{"role": "user", "content": "..."}}]')
        return []
    if not messages:
        wrong("messages", "the list is empty; add at least the user's message")
        return []
    return [check_message(message, f"messages[{i}]", wrong) for i, message in enumerate(messages)]


def _check_ends_with_user(messages: Sequence[Mapping[str, Any]], wrong: Wrong) -> None:
    role = messages[-1].get("role") if messages else None
    where = f"messages[{len(messages) - 1}].role"
    if role == "assistant":
        wrong(where, "the last message must be the user's, since the model samples the answer; move the reference to reference_answer")
    elif role in ROLES and role != "user":
        wrong(where, f"the last message must be the user's, not {role!r}; end the row with the question")


def _missing_advice(item: Mapping[str, Any]) -> str:
    if isinstance(item.get("item"), dict):
        return 'this looks like an evals file, whose rows are wrapped in "item"; write the content of "item" itself as the row'
    if "preferred_output" in item:
        return "this looks like a preference (DPO) file; RFT needs messages and what the grader reads"
    if "prompt" in item or "question" in item or "input" in item:
        name = next(key for key in ("prompt", "question", "input") if key in item)
        return f'turn {name!r} into "messages": [{{"role": "user", "content": ...}}]'
    keys = ", ".join(sorted(map(str, item))[:6])
    return 'write "messages": [{"role": "user", "content": "..."}]' + (f" (keys found: {keys})" if keys else "")


def check_message(message: Any, where: str, wrong: Wrong) -> Mapping[str, Any]:
    if not isinstance(message, dict):
        wrong(where, f'{kind(message)}, not an object; write {{"role": "user", "content": "..."}}')
        return {}
    role = message.get("role")
    if "role" not in message:
        wrong(f"{where}.role", f"missing; use one of {', '.join(ROLES)}")
    elif role not in ROLES:
        shown = json.dumps(role, ensure_ascii=False)[:40]
        wrong(f"{where}.role", f"unknown role {shown}; use one of {', '.join(ROLES)}")
    if role == "assistant" and message.get("tool_calls") and message.get("content") is None:
        return message
    if "content" not in message:
        wrong(f"{where}.content", "missing; write the text")
        return message
    content = _check_content(message["content"], f"{where}.content", wrong)
    if role == "user" and content is not None and not content.strip():
        wrong(f"{where}.content", "the user's message is empty; write the text")
    return message if content is None or content is message["content"] else {**message, "content": content}


def _check_content(content: Any, where: str, wrong: Wrong) -> str | None:
    """The text, or None where there is a fault."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        wrong(where, f'{kind(content)}; write a string or a list of {{"type": "text", "text": "..."}} parts')
        return None
    texts = []
    for i, part in enumerate(content):
        form = part.get("type") if isinstance(part, dict) else None
        if form == "image_url":
            wrong(f"{where}[{i}]", "images are not supported; use text models and text parts")
        elif form != "text" or not isinstance(part.get("text"), str):
            wrong(f"{where}[{i}]", 'not a text part; write {"type": "text", "text": "..."}')
        else:
            texts.append(part["text"])
    return "".join(texts) if len(texts) == len(content) else None


def check_tools(item: Mapping[str, Any], wrong: Wrong) -> None:
    """The row's `tools` and `parallel_tool_calls`."""
    if not isinstance(item.get("parallel_tool_calls", True), bool):
        wrong("parallel_tool_calls", f"{kind(item['parallel_tool_calls'])}; write true or false, or leave it out")
    tools = item.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        wrong("tools", f"{kind(tools)}; write a list of function tools, or leave it out")
        return
    names: set[str] = set()
    for i, tool in enumerate(tools):
        where = f"tools[{i}]"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(function, dict):
            wrong(where, 'not a function tool; write {"type": "function", "function": {"name": "...", "parameters": {...}}}')
            continue
        _check_function(function, f"{where}.function", wrong)
        name = function.get("name")
        if isinstance(name, str) and name in names:
            wrong(f"{where}.function.name", f"{name!r} is declared twice; keep one")
        elif isinstance(name, str):
            names.add(name)


def _check_function(function: Mapping[str, Any], where: str, wrong: Wrong) -> None:
    name = function.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        wrong(f"{where}.name", "missing or malformed; use 1 to 64 letters, digits, _ or -")
    for key, types, words in (
        ("parameters", dict, "a JSON schema object"),
        ("description", str, "a string"),
        ("strict", bool, "true or false"),
    ):
        value = function.get(key)
        if value is not None and not isinstance(value, types):
            wrong(f"{where}.{key}", f"{kind(value)}; write {words}, or leave it out")


def check_lengths(rows: Iterable[Row], count_tokens: Callable[[Row], int], limit: int, *, file: str = "") -> list[int]:
    """Prompt lengths in tokens, one a row.

    `limit` is the most prompt tokens the model takes while leaving room for the answer.
    Raises: DataError naming every line (the first 20 in words) whose prompt is longer.
    """
    complaints = Complaints(file or "rows")
    lengths = []
    for row in rows:
        length = count_tokens(row)
        lengths.append(length)
        if length > limit:
            over = f"{length:,} tokens, {length - limit:,} more than the model has room for ({limit:,})"
            complaints.add(row.line or row.index + 1, "messages", f"{over}; shorten the row, leave it out, or ask for shorter answers")
    complaints.raise_if_any()
    return lengths


def write_rows(path: str | Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all (a temporary file, renamed), making the folder if needed.

    Raises: DataError when the place cannot be written to.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for item in items:
                file.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from None

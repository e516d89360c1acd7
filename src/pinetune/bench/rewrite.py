"""Answers made from answers: other case, other layout, many in one, emptied, cut. JSON stays JSON."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from typing import Any


def parsed(text: str) -> Any:
    """The object or list that the text is, else None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def is_code(text: str) -> bool:
    """Whether case and indentation carry meaning: a fenced block, or Python that does more than name things."""
    if "```" in text:
        return True
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign) for node in body)


def each_text(text: str, change: Callable[[str], str]) -> str:
    """The answer with every text in it changed; keys stay."""
    value = parsed(text)
    return change(text) if value is None else dumped(_map_texts(value, change))


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_texts(inner, change) for inner in value]
    return {key: _map_texts(inner, change) for key, inner in value.items()} if isinstance(value, dict) else value


def emptied(text: str) -> str:
    """
    >>> emptied('{"genes": ["A"], "n": 3, "why": "x"}')
    '{"genes": [], "n": null, "why": ""}'
    """
    return dumped(_empty(parsed(text)))


def _empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _empty(inner) for key, inner in value.items()}
    return [] if isinstance(value, list) else "" if isinstance(value, str) else None


def merged(texts: Sequence[str]) -> str:
    """All answers in one: lists end to end without repetition, objects key by key, texts side by side.

    >>> merged(['{"genes": ["A"], "why": "x"}', '{"genes": ["B"], "why": "x"}'])
    '{"genes": ["A", "B"], "why": "x"}'
    >>> merged(["A", "B"])
    'A, B'
    """
    values = [parsed(text) for text in texts]
    if any(value is None for value in values):
        return ("\n" if any("\n" in text for text in texts) else ", ").join(dict.fromkeys(texts))
    return dumped(_merge(values))


def _merge(values: Sequence[Any]) -> Any:
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _merge([value[key] for value in values if key in value]) for key in keys}
    if any(isinstance(value, list) for value in values):
        flat = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
        return [json.loads(text) for text in dict.fromkeys(map(dumped, flat))]
    different = list(dict.fromkeys(value if isinstance(value, str) else dumped(value) for value in values))
    return values[0] if len(different) == 1 else ", ".join(different)


def doubled_lists(text: str, times: int) -> str | None:
    """The answer with each list in it repeated; None where there is no list."""
    value = parsed(text)
    changed = dumped(_repeat(value, times)) if value is not None else text
    return None if value is None or changed == dumped(value) else changed


def _repeat(value: Any, times: int) -> Any:
    if isinstance(value, list):
        return value * times
    return {key: _repeat(inner, times) for key, inner in value.items()} if isinstance(value, dict) else value


def reordered(text: str) -> str | None:
    """The same JSON with keys the other way round, on several lines; None for other texts."""
    value = parsed(text)
    return None if value is None else json.dumps(_reversed_keys(value), ensure_ascii=False, indent=2)


def _reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed_keys(value[key]) for key in reversed(value)}
    return [_reversed_keys(inner) for inner in value] if isinstance(value, list) else value

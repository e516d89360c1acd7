"""Which keys of an answer a grader's definition reads: the bench's clues to the form of the answer.

Clues only: what they suggest is tried on rows, and counts when it scores.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

KEY = re.compile(r"[A-Za-z_][\w -]{0,40}")
TEMPLATE_KEY = re.compile(r"""\{\{\s*sample\.output_json\s*(?:\.\s*([^.\[\]{}"'\s]+)|\[\s*["']([^"']+)["']\s*\])""")
SAMPLE_KEYS = frozenset({"output_text", "output_json", "output_tools", "output_audio", "choices", "message", "content"})
JUDGES = frozenset({"score_model", "label_model"})
MOST_KEYS = 12


def definitions_in(definition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The definition and, of a multi grader, its parts."""
    yield definition
    parts = definition.get("graders")
    for part in parts.values() if isinstance(parts, Mapping) else parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping):
            yield from definitions_in(part)


def asks_a_judge(definition: Mapping[str, Any] | None) -> bool:
    return any(part.get("type") in JUDGES for part in definitions_in(definition or {}))


def answer_keys(definition: Mapping[str, Any] | None, item: Mapping[str, Any]) -> list[str]:
    """Keys that the grader may read of a JSON answer, the likeliest first; keys of the row itself come last."""
    found: dict[str, None] = {}
    for part in definitions_in(definition or {}):
        for text in _texts(part):
            found.update(dict.fromkeys(a or b for a, b in TEMPLATE_KEY.findall(text)))
        if isinstance(part.get("source"), str):
            found.update(dict.fromkeys(keys_in_source(part["source"])))
    keys = [key for key in found if key not in SAMPLE_KEYS]
    return sorted(keys, key=lambda key: key in item)[:MOST_KEYS]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def keys_in_source(source: str) -> list[str]:
    """String constants used as keys (`answer["genes"]`, `answer.get("genes")`, `"genes" in answer`), then named constants."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    used, named = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            used += _constant(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"get", "pop"} and node.args:
            used += _constant(node.args[0])
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            used += _constant(node.left)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            named += _constant(node.value)
    return list(dict.fromkeys(used + named))


def _constant(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
        return [node.value]
    return []


def schema_example(schema: Mapping[str, Any], depth: int = 0) -> Any:
    """A smallest value of a JSON schema's type: objects with all their properties, empty lists, empty texts."""
    kind = schema.get("type")
    kind = next((name for name in kind if name != "null"), "null") if isinstance(kind, list) else kind
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "object" and depth < 8:
        return {key: schema_example(inner, depth + 1) for key, inner in (schema.get("properties") or {}).items()}
    return {"array": [], "number": 0, "integer": 0, "boolean": False, "null": None}.get(str(kind), "")

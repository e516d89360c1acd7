"""Snippets for the gallery's graders: find the answer in what the model wrote, and compare texts fairly."""

import json
import unicodedata
from typing import Any


def answer_object(sample: dict[str, Any]) -> Any:
    """The answer's one JSON object, or None. A code fence or prose around it is forgiven, a second object is not."""
    answer = sample.get("output_json")
    if answer is None:
        answer = only_object(sample.get("output_text") or "")
    return answer if isinstance(answer, dict) else None


def only_object(text: str) -> Any:
    """The one JSON object in `text`, or None where there is none or more than one."""
    decoder = json.JSONDecoder(object_pairs_hook=without_repeated_keys)
    found = None
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        if found is not None:
            return None
        found, start = value, text.find("{", end)
    return found


def without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def from_json(value: Any) -> Any:
    """A reference kept as JSON text is read; everything else is itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def accepted(value: Any) -> list[Any]:
    """The answers a reference accepts: itself, or each entry of a list."""
    value = from_json(value)
    return value if isinstance(value, list) else [value]


def folded(text: str) -> str:
    """One spelling: case, white space and the forms of a character do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def overlong(sample: dict[str, Any], most: int) -> bool:
    return len(sample.get("output_text") or "") > most

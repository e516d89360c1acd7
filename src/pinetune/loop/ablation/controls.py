"""Graders of the control arms: one that knows nothing, one that looks at the form only.

Rewards without information can move a model that was about to move anyway (Shao et al., "Spurious Rewards", arXiv 2506.10947): what
random rewards gain is no merit of the grader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pinetune.graders.gallery.reading import only_object
from pinetune.records import Completion, Grade, Row
from pinetune.rollout.run import derive_seed

FormatCheck = Callable[[Completion], bool]
JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
}  # fmt: skip


class RandomGrader:
    """A coin for each answer, the same whenever it is asked again, so that a resumed run goes on as it was."""

    name = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def grade(self, completion: Completion, row: Row) -> Grade:
        coin = derive_seed(self._seed, "coin", row.index, completion.answer, *completion.token_ids) % 2
        return Grade("ok", float(coin), "a coin was thrown")

    def close(self) -> None: ...


class FormatGrader:
    """1 where the answer has the wanted form, whatever it says."""

    name = "format"

    def __init__(self, check: FormatCheck) -> None:
        self._check = check

    def grade(self, completion: Completion, row: Row) -> Grade:
        return Grade("ok", float(self._check(completion)))

    def close(self) -> None: ...


def format_check(schema: Mapping[str, Any] | None, example: str | None) -> tuple[FormatCheck, str]:
    """(check, what it asks in words), from the job's JSON schema, else from a right answer's text, else only that the answer ends.

    Of a schema the top level is looked at: the required keys and their types.
    """
    shown = only_object(example) if example else None
    if schema is not None and schema.get("type", "object") == "object":
        properties = schema.get("properties") or {}
        keys = {key: (properties.get(key) or {}).get("type") for key in schema.get("required") or properties}
        return _has_keys(keys), f"one JSON object with {', '.join(keys) or 'any keys'}, as response_format says"
    if shown is not None:
        types = {key: next((name for name, kind in JSON_TYPES.items() if isinstance(value, kind)), None) for key, value in shown.items()}
        return _has_keys(types), f"one JSON object with {', '.join(shown)}, as right answers have"
    return _ends, "an answer that is not empty and ends by itself"


def _has_keys(types: Mapping[str, Any]) -> FormatCheck:
    def check(completion: Completion) -> bool:
        answer = only_object(completion.answer)
        return answer is not None and all(key in answer and _is(answer[key], kind) for key, kind in types.items())

    return check


def _is(value: Any, kind: Any) -> bool:
    expected = JSON_TYPES.get(kind) if isinstance(kind, str) else None
    return expected is None or (isinstance(value, expected) and (kind in ("boolean",) or not isinstance(value, bool)))


def _ends(completion: Completion) -> bool:
    return completion.finish == "stop" and bool(completion.answer.strip())

"""A row's answer: in which field it stands, and when two answers, or two prompts, are the same.

Shared by the leakage check, the splitter and the skew figures, so that they agree on what "the same answer" means.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pinetune.records import Row

ANSWER_FIELDS = (  # looked for in this order
    "reference_answer",
    "answer",
    "correct_answer",
    "expected_answer",
    "ground_truth",
    "gold_answer",
    "gold",
    "reference",
    "expected",
    "expected_output",
    "target",
    "label",
    "solution",
)


def lookup(item: Mapping[str, Any], field: str) -> Any:
    """The value at a dotted path (`answer.intent`, `item.label`), or None where it is absent or null.

    >>> lookup({"answer": {"intent": "weather"}}, "answer.intent")
    'weather'
    """
    if field in item:
        return item[field]
    value: Any = item
    for key in field.removeprefix("item.").split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def find_answer_field(*files: Sequence[Row]) -> str | None:
    """The first usual name that every row of every file has, or None."""
    for name in ANSWER_FIELDS:
        if any(files) and all(lookup(row.item, name) is not None for rows in files for row in rows):
            return name
    return None


def normalise(value: Any) -> str:
    """One spelling for one answer: case, white space, number form and key order do not count.

    >>> normalise("  Marfan\\nSyndrome ") == normalise("marfan syndrome"), normalise(4.0) == normalise("4")
    (True, True)
    """
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if isinstance(value, Mapping):
        return json.dumps({normalise(key): normalise(inner) for key, inner in value.items()}, sort_keys=True)
    if isinstance(value, list | tuple):
        return json.dumps([normalise(inner) for inner in value])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def prompt_key(messages: Iterable[Mapping[str, Any]]) -> str:
    """One spelling for one prompt: who says what, in order; names, ids and layout do not count.

    >>> prompt_key([{"role": "user", "content": " Hi "}]) == prompt_key([{"role": "user", "content": "hi", "name": "Eve"}])
    True
    """
    return normalise([[message.get("role"), message.get("content")] for message in messages])


def answer_keys(value: Any) -> frozenset[str]:
    """The answers a field accepts: one, or each element of a list (also of a list written as a JSON string).

    >>> sorted(answer_keys('["FBN1", "Fbn2"]')), sorted(answer_keys("FBN1"))
    (['fbn1', 'fbn2'], ['fbn1'])
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = None
        value = parsed if isinstance(parsed, list) else value
    values = value if isinstance(value, list | tuple) else [value]
    return frozenset(key for key in map(normalise, values) if key not in ("", "null"))


def as_text(value: Any) -> str:
    """An answer as a person wrote it, on one line."""
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def right_answer(item: Mapping[str, Any], field: str | None = None) -> str | None:
    """An item's reference answer to be shown: of `field`, else of the first usual name it has; None where it has none.

    >>> right_answer({"prompt": "Which gene?", "reference_answer": "TSC2"})
    'TSC2'
    """
    found = (lookup(item, name) for name in (ANSWER_FIELDS if field is None else (field,)))
    return next((as_text(value) for value in found if value is not None), None)


def effective_number(sizes: Iterable[int]) -> float:
    """exp(entropy) of the shares: how many equally large groups would be as diverse (Hill number of order 1).

    Ten groups of equal size give 10; one group of 991 rows and nine of 1 give 1.07.

    >>> round(effective_number([5, 5, 5, 5]), 6)
    4.0
    """
    sizes = [size for size in sizes if size > 0]
    total = sum(sizes)
    return math.exp(-sum(size / total * math.log(size / total) for size in sizes)) if total else 0.0


def count_by(rows: Iterable[Row], field: str) -> Counter[str]:
    """How many rows each value of the field has, by normalised value."""
    return Counter(normalise(lookup(row.item, field)) for row in rows)

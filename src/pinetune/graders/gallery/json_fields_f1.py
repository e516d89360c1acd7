"""JSON extraction: F1 over the fields of the answer's object against the reference object, nested ones included.

A field counts when its path and its value are right; case, white space and the form of numbers do not count, nor does
the order of a list. Every field given counts as an attempt, so inventing fields lowers the grade.
"""

from collections import Counter
from typing import Any

from pinetune.graders.gallery.numbers import as_number
from pinetune.graders.gallery.reading import answer_object, folded, from_json, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right object, or its JSON text
IGNORE = ()  # top-level keys of the answer that are not graded, such as ("explanation",)
MAX_CHARS = 20_000  # longer answers score 0


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    reference = from_json(item[ANSWER_FIELD])
    if not isinstance(reference, dict):
        raise TypeError(f"item[{ANSWER_FIELD!r}] must be an object, not {type(reference).__name__}")
    answer = answer_object(sample)
    if answer is None or overlong(sample, MAX_CHARS):
        return 0.0
    given, wanted = fields_of(answer), fields_of(reference)
    total = sum(given.values()) + sum(wanted.values())
    return 2 * sum((given & wanted).values()) / total if total else 1.0


def fields_of(value: dict[str, Any]) -> Counter[tuple[str, Any]]:
    """(path, value) of every leaf, and how often it occurs; a null is an absent field."""
    found: Counter[tuple[str, Any]] = Counter()
    stack: list[tuple[str, Any]] = [(key, inner) for key, inner in value.items() if key not in IGNORE]
    while stack:
        path, here = stack.pop()
        if isinstance(here, dict):
            stack += [(f"{path}.{key}", inner) for key, inner in here.items()]
        elif isinstance(here, list):
            stack += [(f"{path}[]", inner) for inner in here]
        elif here is not None:
            found[path, plain(here)] += 1
    return found


def plain(value: Any) -> Any:
    number = as_number(value)
    return folded(str(value)) if number is None else number

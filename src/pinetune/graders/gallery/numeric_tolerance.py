"""Number with tolerance: 1.0 within the tolerance, part marks within a wider one.

The answer is {"answer": 12.5}, or a text whose last number is the answer; only that one number counts, so listing many
gains nothing. "$", "%" and thousands separators do not count.
"""

from typing import Any

from pinetune.graders.gallery.numbers import as_number, close, numbers_in
from pinetune.graders.gallery.reading import answer_object, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right number
NUMBER_FIELD = "answer"  # key of the number in the model's JSON answer
RELATIVE = 0.01  # full marks within this share of the right number
ABSOLUTE = 1e-6  # full marks also within this distance
LOOSE = 0.05  # part marks within this share of the right number
LOOSE_MARK = 0.3  # the part marks; 0 = none
MAX_CHARS = 8_000  # longer answers score 0


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    reference = as_number(item[ANSWER_FIELD])
    if reference is None:
        raise ValueError(f"item[{ANSWER_FIELD!r}] is no number: {item[ANSWER_FIELD]!r}")
    number = None if overlong(sample, MAX_CHARS) else number_of(sample)
    if number is None:
        return 0.0
    if close(number, reference, RELATIVE, ABSOLUTE):
        return 1.0
    return LOOSE_MARK if close(number, reference, LOOSE, ABSOLUTE) else 0.0


def number_of(sample: dict[str, Any]) -> float | None:
    answer = answer_object(sample)
    if answer is not None:
        return as_number(answer.get(NUMBER_FIELD))
    found = numbers_in(sample.get("output_text") or "")
    return found[-1] if found else None

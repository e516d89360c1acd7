"""Final answer after a phrase: what follows "The answer is", "####" or "\\boxed{" equals the reference (GSM8K style).

Numbers are compared by value, texts without case and punctuation. An answer that never states a final answer scores 0,
and so does one that states two different ones.
"""

import re
from typing import Any

from pinetune.graders.gallery.numbers import as_number, close, numbers_in
from pinetune.graders.gallery.reading import accepted, folded, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right answer, or a list of answers that count as right
PHRASES = ("####", "the answer is", "final answer:", "\\boxed{")  # what stands before a final answer; case does not count
TOLERANCE = 1e-6  # numbers are equal within this share
MAX_CHARS = 8_000  # longer answers score 0


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    text = sample.get("output_text") or ""
    stated = [] if overlong(sample, MAX_CHARS) else statements(text)
    right = [str(value) for value in accepted(item[ANSWER_FIELD])]
    if not stated:
        return 0.0
    return float(any(all(equal(statement, reference) for statement in stated) for reference in right))


def statements(text: str) -> list[str]:
    """What follows each phrase, to the end of its line."""
    phrases = "|".join(re.escape(phrase) for phrase in PHRASES)
    return [found.strip() for found in re.findall(rf"(?:{phrases})[ \t:]*([^\n]*)", text, re.IGNORECASE)]


def equal(statement: str, reference: str) -> bool:
    number = as_number(reference)
    if number is None:
        return bare(statement) == bare(reference)
    found = set(numbers_in(statement))
    return len(found) == 1 and close(found.pop(), number, TOLERANCE, 1e-9)


def bare(text: str) -> str:
    return folded(text).strip(" .,;:!?*_`'\"<>$(){}[]")

"""Code with part marks: 1.0 for the exact code, less for one in the right part of the tree (ICD-10: category 0.3).

The answer is {"code": "F91.8"} or a text with exactly one code in it. Dots and case do not count. Several codes score 0.
"""

import re
from typing import Any

from pinetune.graders.gallery.reading import accepted, answer_object, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right code, or a list of codes that count as right
CODE_FIELD = "code"  # key of the code in the model's JSON answer
PATTERN = r"[A-Z][0-9][0-9A-Z](?:\.?[0-9A-Z]{1,4})?"  # what a code looks like (ICD-10-CM), to find it in a text
PREFIX_MARKS = {3: 0.3, 4: 0.5}  # leading characters shared with the right code (dots aside) -> grade
MAX_CHARS = 4_000  # longer answers score 0


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    right = [plain(str(code)) for code in accepted(item[ANSWER_FIELD])]
    code = code_of(sample)
    return max((mark(code, reference) for reference in right), default=0.0) if code else 0.0


def code_of(sample: dict[str, Any]) -> str:
    """The one code of the answer, or "" where there is none or more than one."""
    if overlong(sample, MAX_CHARS):
        return ""
    answer = answer_object(sample)
    if answer is not None:
        code = answer.get(CODE_FIELD)
        return plain(code) if isinstance(code, str) and re.fullmatch(PATTERN, code.strip().upper()) else ""
    found = {plain(code) for code in re.findall(rf"(?<![\w.]){PATTERN}(?!\w)", (sample.get("output_text") or "").upper())}
    return found.pop() if len(found) == 1 else ""


def mark(code: str, reference: str) -> float:
    if code == reference:
        return 1.0
    shared = [value for length, value in PREFIX_MARKS.items() if len(code) >= length and code[:length] == reference[:length]]
    return float(max(shared, default=0.0))


def plain(code: str) -> str:
    return code.replace(".", "").strip().upper()

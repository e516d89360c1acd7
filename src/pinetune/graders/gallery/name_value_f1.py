"""Name-value pairs: F1 of the pairs given against the right ones (registers, signals, settings of a chip).

The answer is a JSON object of name and value, a list of {"name", "value"} objects under "pairs", or lines `NAME = value`.
A pair counts when name and value are right; numbers are compared by value (255, 0xFF and 8'hFF are one). Every pair given
counts as an attempt, so listing everything or naming a pair twice lowers the grade.
"""

import re
from typing import Any

from pinetune.graders.gallery.numbers import as_number
from pinetune.graders.gallery.reading import answer_object, folded, from_json, overlong

ANSWER_FIELD = "reference_answer"  # field of the row: the right pairs, in any of the answer's forms
PAIRS_FIELD = "pairs"  # key of the pairs in the model's JSON answer; without it the whole object is read as pairs
MAX_CHARS = 20_000  # longer answers score 0

LINE = re.compile(r"^[\s*-]*([\w.\[\]:/ -]{1,80}?)\s*(?:=|:(?!:))\s*(.+?)[\s,;]*$")
RADIX = {"h": 16, "d": 10, "o": 8, "b": 2, "x": 16}
LITERAL = re.compile(r"(?:\d*'s?|0)([hdobxHDOBX])([0-9a-fA-F_]+)")


def grade(sample: dict[str, Any], item: dict[str, Any]) -> float:
    right = pairs_of(from_json(item[ANSWER_FIELD]))
    if overlong(sample, MAX_CHARS):
        return 0.0
    answer = answer_object(sample)
    given = pairs_of(answer if answer is not None else sample.get("output_text") or "")
    wanted = set(right)
    if not given or not wanted:
        return float(not given and not wanted)
    return 2 * len(wanted & set(given)) / (len(given) + len(wanted))


def pairs_of(value: Any) -> list[tuple[str, Any]]:
    """All pairs as (name, value), repetitions kept."""
    if isinstance(value, dict):
        inner = value.get(PAIRS_FIELD)
        if isinstance(inner, dict | list):
            return pairs_of(inner)
        return [(folded(str(name)), plain(inner)) for name, inner in value.items()]
    if isinstance(value, list):
        return [pair for entry in value for pair in pair_of(entry)]
    matches = (LINE.match(line) for line in str(value).splitlines())
    return [(folded(match.group(1)), plain(match.group(2))) for match in matches if match]


def pair_of(entry: Any) -> list[tuple[str, Any]]:
    if isinstance(entry, dict) and "name" in entry and "value" in entry:
        return [(folded(str(entry["name"])), plain(entry["value"]))]
    if isinstance(entry, list) and len(entry) == 2:
        return [(folded(str(entry[0])), plain(entry[1]))]
    return pairs_of(entry) if isinstance(entry, dict | str) else [("", str(entry))]


def plain(value: Any) -> Any:
    """One form for one value: a number where it is one, else the folded text."""
    text = value if isinstance(value, str) else str(value)
    literal = LITERAL.fullmatch(text.strip())
    if literal:
        try:
            return float(int(literal.group(2).replace("_", ""), RADIX[literal.group(1).lower()]))
        except ValueError:
            return folded(text)
    number = as_number(value)
    return folded(text) if number is None else number

"""Snippets for the gallery's graders: numbers as people write them."""

import math
import re
from typing import Any

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][-+]?\d{1,3})?(?!\w|\.\d)")


def as_number(value: Any) -> float | None:
    """A finite number out of a number or its text ("1,234.50", "$18", "12%", "3/4"); None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        text = value.strip().lstrip("$€£").rstrip("%.").strip()
        over, slash, under = text.partition("/")
        if slash:
            top, bottom = as_number(over), as_number(under)
            return top / bottom if top is not None and bottom else None
        if not NUMBER.fullmatch(text):
            return None
        value = text.replace(",", "")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def numbers_in(text: str) -> list[float]:
    """All numbers of a text, in order."""
    found = (as_number(match.group()) for match in NUMBER.finditer(text) if match.group())
    return [number for number in found if number is not None]


def close(number: float, reference: float, relative: float, absolute: float) -> bool:
    return abs(number - reference) <= max(relative * abs(reference), absolute)

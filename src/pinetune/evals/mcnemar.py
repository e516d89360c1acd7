"""Exact McNemar test: two models, right or wrong on the same rows. Only the rows where they differ speak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class McNemar:
    """`gained`: rows wrong under the first and right under the second; `lost`: the other way; `p_value` two-sided and exact."""

    gained: int
    lost: int
    same: int
    p_value: float


def mcnemar(a: Sequence[float], b: Sequence[float]) -> McNemar:
    """Of 0/1 values a row (McNemar, Psychometrika 1947; exact by the binomial). Rows must be independent: where they share answers,
    `statistics.paired_difference` with clusters is the test.

    Raises: ValueError for other values than 0 and 1, or lists of two lengths.

    >>> mcnemar([0, 0, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0, 1, 0])
    McNemar(gained=5, lost=1, same=2, p_value=0.21875)
    """
    if len(a) != len(b):
        raise ValueError(f"paired values must have one length, not {len(a)} and {len(b)}")
    if any(value not in (0, 1) for value in (*a, *b)):
        raise ValueError("McNemar's test is for values of 0 and 1; use paired_difference for others")
    gained = sum(x == 0 and y == 1 for x, y in zip(a, b, strict=True))
    lost = sum(x == 1 and y == 0 for x, y in zip(a, b, strict=True))
    return McNemar(gained, lost, len(a) - gained - lost, sign_test(gained, lost))


def sign_test(up: int, down: int) -> float:
    """Two-sided binomial p-value of `up` against `down` at one half."""
    total, least = up + down, min(up, down)
    if up == down:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(least + 1))
    return float(2 * tail / 2**total)  # whole numbers until here: Python divides them without overflow

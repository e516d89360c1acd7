"""How many requests a key may make: a token bucket each, refilled steadily, shown in OpenAI's x-ratelimit headers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_BUCKETS = 10_000  # beyond that many keys the fullest are forgotten: a full bucket and none are the same


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a caller after this request; `wait_seconds` 0 = let in."""

    limit: int
    remaining: int
    reset_seconds: float
    wait_seconds: float

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{math.ceil(self.reset_seconds * 1000)}ms",
        }


class Buckets:
    """`per_minute` requests a minute for each name, all at once if they like; 0 = without limit. For one event loop, no locks."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._now = now
        self._levels: dict[str, tuple[float, float]] = {}  # name -> tokens, and when that was so

    def take(self, name: str) -> Allowance | None:
        """One request of `name`; None where there is no limit.

        >>> buckets = Buckets(60, now=lambda: 0.0)
        >>> buckets.take("key").remaining
        59
        """
        if self.per_minute <= 0:
            return None
        now, rate = self._now(), self.per_minute / 60
        level, at = self._levels.get(name, (float(self.per_minute), now))
        level = min(float(self.per_minute), level + (now - at) * rate)
        wait = 0.0 if level >= 1 else (1 - level) / rate
        level -= 0 if wait else 1
        self._levels[name] = (level, now)
        if len(self._levels) > MOST_BUCKETS:
            self._forget(now, rate)
        return Allowance(self.per_minute, int(level), (self.per_minute - level) / rate, wait)

    def _forget(self, now: float, rate: float) -> None:
        fullest = sorted(self._levels, key=lambda name: -(self._levels[name][0] + (now - self._levels[name][1]) * rate))
        for name in fullest[: MOST_BUCKETS // 10]:
            del self._levels[name]

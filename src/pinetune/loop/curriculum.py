"""Which rows come next: a seeded shuffle an epoch, with the prompts that have nothing left to teach put aside.

The whole state is a small JSON object, so that a resumed job draws exactly the rows the uninterrupted one would have.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pinetune.records import Group, Row
from pinetune.rollout.run import derive_seed

MIN_VISITS = 2  # one lucky group does not retire a prompt


class Curriculum:
    """Deals rows in seeded random order and retires prompts whose mean reward reached `retire_at`."""

    def __init__(self, rows: Sequence[Row], seed: int, retire_at: float) -> None:
        self._rows = {row.index: row for row in rows}
        self._seed = seed
        self._retire_at = retire_at
        self._epoch = 0
        self._draws = 0
        self._queue: list[int] = []
        self._visits: dict[int, list[float]] = {}  # row index -> mean rewards of its groups, newest last

    @property
    def epoch(self) -> int:
        """Epochs begun."""
        return self._epoch

    def retired(self) -> set[int]:
        """Rows solved in their last MIN_VISITS groups."""
        return {
            index for index, means in self._visits.items()
            if len(means) >= MIN_VISITS and min(means[-MIN_VISITS:]) >= self._retire_at
        }  # fmt: skip

    def all_retired(self) -> bool:
        return len(self.retired()) == len(self._rows)

    def draw(self, count: int) -> list[Row]:
        """The next `count` different rows; retired ones only where too few others are left, so that no batch shrinks."""
        self._draws += 1
        retired = self.retired()
        active = [index for index in sorted(self._rows) if index not in retired]
        wanted = min(count, len(active))
        drawn: list[int] = []
        again: list[int] = []  # drawn a moment ago from the epoch before; they keep their turn in this one
        while len(drawn) < wanted:
            if not self._queue:
                self._epoch += 1
                self._queue = list(active)
                random.Random(derive_seed(self._seed, "epoch", self._epoch)).shuffle(self._queue)
            index = self._queue.pop(0)
            if index in drawn:
                again.append(index)
            elif index not in retired:
                drawn.append(index)
        self._queue = again + self._queue
        missing = min(count - wanted, len(retired))
        drawn += random.Random(derive_seed(self._seed, "again", self._draws)).sample(sorted(retired), missing)
        return [self._rows[index] for index in drawn]

    def learn(self, groups: Sequence[Group]) -> None:
        """Remember how well each row was solved."""
        for group in groups:
            rewards = group.rewards()
            if rewards:
                means = self._visits.setdefault(group.row.index, [])
                means.append(sum(rewards) / len(rewards))
                del means[:-MIN_VISITS]

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "draws": self._draws,
            "queue": list(self._queue),
            "visits": {str(k): list(v) for k, v in self._visits.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._epoch, self._draws, self._queue = state["epoch"], state["draws"], list(state["queue"])
        self._visits = {int(k): list(v) for k, v in state["visits"].items()}

"""The prompt-only arm: the base with a few worked rows in its prompt, the best of several choices of rows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pinetune.records import Row

COUNTS = (0, 1, 2, 4)  # worked rows in the prompt
CHOICE_ROWS = 50  # on which a choice is judged
DRAWS = 2  # choices of rows for each count
SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Shots:
    """Training rows shown with their right answers; () is the plain prompt."""

    name: str
    rows: tuple[Row, ...]


def candidates(train: Sequence[Row], seed: int) -> list[Shots]:
    """The plain prompt, then `DRAWS` choices of rows for each larger count that the training rows allow."""
    found = [Shots("no example", ())]
    for count in COUNTS[1:]:
        for draw in range(DRAWS):
            if count <= len(train):
                chosen = random.Random(f"{seed} {count} {draw}").sample(list(train), count)
                found.append(Shots(f"{count} example{'s' * (count > 1)}, choice {draw + 1}", tuple(chosen)))
    return found


def choice_rows(train: Sequence[Row], valid: Sequence[Row], shots: Shots) -> list[Row]:
    """Validation rows; where there are none training rows, but none whose answer stands in the prompt (while others are left)."""
    if valid:
        return list(valid[:CHOICE_ROWS])
    shown = {row.index for row in shots.rows}
    return [row for row in train[:CHOICE_ROWS] if row.index not in shown] or list(train[:CHOICE_ROWS])


def with_shots(row: Row, shots: Shots, write: Callable[[Row], str]) -> Row:
    """The row with worked rows before its last messages: system messages stay first, and the item is untouched."""
    head = [message for message in row.messages if message["role"] in SYSTEM]
    rest = [message for message in row.messages if message["role"] not in SYSTEM]
    worked = []
    for shot in shots.rows:
        worked += [message for message in shot.messages if message["role"] not in SYSTEM]
        worked.append({"role": "assistant", "content": write(shot)})
    return replace(row, messages=(*head, *worked, *rest))

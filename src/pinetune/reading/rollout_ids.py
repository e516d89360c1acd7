"""Names of answers in a run, short enough to type.

train-12:40:3             step 12, row 40, sample 3
eval-20:7:0               the held-out report of step 20
eval-final-tuned:7:0      a report with a name
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pinetune.errors import UserError

Source = Literal["train", "eval"]
FORM = re.compile(r"(train|eval)-(.+):(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class RolloutId:
    """`place` is a step's number, or the name of a report. str() gives the name to type."""

    source: Source
    place: str
    row: int
    sample: int

    def __str__(self) -> str:
        return f"{self.source}-{self.place}:{self.row}:{self.sample}"


def parse_id(text: str) -> RolloutId:
    """Raises UserError showing the form."""
    match = FORM.fullmatch(text.strip())
    if match is None or (match[1] == "train" and not match[2].isdigit()):
        raise UserError(f"{text!r} names no answer; write one as pinetune read shows them: train-STEP:ROW:SAMPLE or eval-NAME:ROW:SAMPLE")
    return RolloutId("train" if match[1] == "train" else "eval", match[2], int(match[3]), int(match[4]))

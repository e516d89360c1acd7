"""What an alarm looks at, and what it says."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pinetune.records import EvalReport, Group, StepReport

START = 5  # steps that show how the run began
RECENT = 5  # steps that show how it is now: at 16 rows a step about 80 groups


@dataclass(frozen=True, slots=True)
class History:
    """A run so far. `groups` are the newest step's, () where they are not known (a run read back from its folder)."""

    steps: Sequence[StepReport]
    evals: Sequence[EvalReport]  # the held-out curve, base first; without their groups
    groups: Sequence[Group] = ()
    answer_field: str | None = None  # the rows' key that holds the right answer, where the job names it


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong and what to do, in words for someone who is no expert in training; `data` has the figures."""

    name: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[History], Alarm | None]


def mean(steps: Sequence[StepReport], of: Callable[[StepReport], float]) -> float:
    return statistics.fmean(map(of, steps))


def entropies(steps: Sequence[StepReport]) -> list[float]:
    """Nats a token, of the steps that have it (a step without an update has none)."""
    return [report.update.metrics["entropy"] for report in steps if "entropy" in report.update.metrics]

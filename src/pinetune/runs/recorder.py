"""The Recorder that writes a run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pinetune.records import EvalReport, Group, StepReport
from pinetune.runs.folder import RunFolder

ON_THE_CURVE = re.compile(r"base|step \d+")


class FolderRecorder:
    """Writes each event, step and evaluation to `run` as it happens.

    Evaluations named "base" or "step N" are points of the held-out curve; any other ("tuned", "ranker") is kept under
    its name.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._stop = False

    def event(self, level: Literal["info", "warn", "error"], message: str, data: Mapping[str, Any] | None = None) -> None:
        self.run.append_event(level, message, data)

    def step(self, report: StepReport, groups: Sequence[Group]) -> None:
        self.run.write_step(report, groups)

    def evaluation(self, report: EvalReport) -> None:
        on_the_curve = ON_THE_CURVE.fullmatch(report.name)
        self.run.write_eval(report, None if on_the_curve else re.sub(r"[^\w.-]+", "-", report.name))

    def request_stop(self) -> None:
        """Ask the job to stop after the step in flight. Safe to call from a signal handler or another thread."""
        self._stop = True

    def stop_requested(self) -> bool:
        return self._stop

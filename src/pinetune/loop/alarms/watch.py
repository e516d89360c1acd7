"""Asks the alarms while a job runs and says each once an episode: an event of level "warn" with data {"alarm": name, "step": n, ...}."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pinetune.loop.alarms import EVAL_ALARMS, STEP_ALARMS
from pinetune.loop.alarms.history import Alarm, Check, History
from pinetune.loop.alarms.replay import eval_reports, step_reports
from pinetune.records import EvalReport, Group, Recorder, StepReport
from pinetune.runs.folder import RunFolder

QUIET = 5  # checks in a row without a fault end its episode; if it comes back it is said again


class Watch:
    """The history of one run and which alarms are on."""

    def __init__(
        self,
        steps: Sequence[StepReport] = (),
        evals: Sequence[EvalReport] = (),
        on: Sequence[str] = (),
        answer_field: str | None = None,
    ) -> None:
        self._steps, self._evals, self._answer_field = list(steps), list(evals), answer_field
        self._quiet = dict.fromkeys(on, 0)  # alarms that were said -> checks since without the fault

    def hear_step(self, report: StepReport, groups: Sequence[Group]) -> list[Alarm]:
        """The alarms that this step sets off."""
        self._steps.append(with_entropy(report, groups))
        return self._ask(STEP_ALARMS, History(self._steps, self._evals, groups, self._answer_field))

    def hear_evaluation(self, report: EvalReport) -> list[Alarm]:
        """`report` is a point of the held-out curve."""
        self._evals = [known for known in self._evals if known.step != report.step] + [replace(report, groups=())]
        return self._ask(EVAL_ALARMS, History(self._steps, self._evals))

    def _ask(self, table: Mapping[str, Check], history: History) -> list[Alarm]:
        new = []
        for name, check in table.items():
            alarm = check(history)
            if alarm is None:
                if name in self._quiet:
                    self._quiet[name] += 1
                    if self._quiet[name] >= QUIET:
                        del self._quiet[name]
                continue
            if name not in self._quiet:
                new.append(alarm)
            self._quiet[name] = 0
        return new


def with_entropy(report: StepReport, groups: Sequence[Group]) -> StepReport:
    """A step without an update has no entropy of the learner's; the sampled tokens' mean -log p estimates the same."""
    if "entropy" in report.update.metrics:
        return report
    logprobs = [
        logprob
        for group in groups
        for rollout in group.rollouts
        for logprob, forced in zip(rollout.completion.logprobs, rollout.completion.forced, strict=True)
        if not forced and math.isfinite(logprob)
    ]
    if not logprobs:
        return report
    return replace(
        report, update=replace(report.update, metrics={**report.update.metrics, "entropy": -math.fsum(logprobs) / len(logprobs)})
    )


class AlarmRecorder:
    """Passes everything on to `inner` and adds the alarms. A job that goes on reads what was before from its `run` folder."""

    def __init__(self, inner: Recorder, run: RunFolder) -> None:
        self._inner, self._run = inner, run
        self._watch: Watch | None = None

    def event(self, level: Literal["info", "warn", "error"], message: str, data: Mapping[str, Any] | None = None) -> None:
        self._inner.event(level, message, data)

    def step(self, report: StepReport, groups: Sequence[Group]) -> None:
        watch = self._open()
        self._inner.step(report, groups)
        self._say(watch.hear_step(report, groups), report.step)

    def evaluation(self, report: EvalReport) -> None:
        watch = self._open()
        self._inner.evaluation(report)
        self._say(watch.hear_evaluation(report), report.step)

    def stop_requested(self) -> bool:
        return self._inner.stop_requested()

    def _open(self) -> Watch:
        """Not before the first report: on resume the folder is first cut back to the checkpoint."""
        if self._watch is None:
            rows = self._run.read_metrics()
            said = [str(data["alarm"]) for event in self._run.read_events() if "alarm" in (data := event.get("data") or {})]
            self._watch = Watch(step_reports(rows), eval_reports(rows), said, self._answer_field())
        return self._watch

    def _answer_field(self) -> str | None:
        """As the job names it; a job that leaves it to be found has none."""
        body = self._run.read_job().get("body", {}) if self._run.exists() else {}
        field = (body.get("pinetune") or {}).get("answer_field")
        return None if field is None else str(field)

    def _say(self, alarms: Sequence[Alarm], step: int) -> None:
        for alarm in alarms:
            self._inner.event("warn", alarm.message, {"alarm": alarm.name, "step": step, **alarm.data})

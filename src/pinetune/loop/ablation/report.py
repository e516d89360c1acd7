"""What the controls show: a table of arms beside the base, the gain split, and what follows in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pinetune.evals.statistics import PairedResult
from pinetune.loop.ablation.split import GainSplit
from pinetune.records import Interval

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Arm:
    """One control. `over_base` is None for the base itself; `skipped` says why an arm was not run."""

    name: str
    meaning: str
    reward: Interval | None
    metrics: Mapping[str, Interval] = field(default_factory=dict)
    over_base: PairedResult | None = None
    under_job: PairedResult | None = None  # the job's reward minus this arm's
    detail: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class AblationReport:
    """All on the same rows, graded by the job's own grader."""

    arms: tuple[Arm, ...]
    split: GainSplit | None
    format_asked: str  # what the format check asks, in words
    held_out: str  # "240 test rows"

    def arm(self, name: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name), None)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "conclusions": self.conclusions()}

    def conclusions(self) -> list[str]:
        """Plain sentences, each standing on a paired test."""
        job = self.arm("job")
        if job is None or job.over_base is None:
            return []
        gain = job.over_base
        said = [f"The job's gain over the base is {_signed(gain.difference)} ({_p(gain.p_value)})."]
        if gain.p_value > SIGNIFICANT:
            said.append("That is no shown gain, so there is nothing to explain.")
            return said
        said += [line for name in ("random", "format", "sft", "prompt") if (line := self._beside(name))]
        if self.split is not None:
            said.append(self._split(self.split))
        return said

    def _split(self, split: GainSplit) -> str:
        shares = f"answers that have it: {split.base_share:.0%} -> {split.tuned_share:.0%}; {self.format_asked}"
        if split.form is None or split.capability is None:
            return (
                f"The base never writes the form ({shares}), so the gain cannot be split: what it would earn in that form nobody has seen. "
                "The format arm shows what form alone brings."
            )
        return f"Of the gain, {_signed(split.form)} is form ({shares}), and {_signed(split.capability)} is better answers in that form."

    def _beside(self, name: str) -> str:
        arm = self.arm(name)
        if arm is None or arm.over_base is None or arm.under_job is None:
            return ""
        gained = f"gains {_signed(arm.over_base.difference)} ({_p(arm.over_base.p_value)})"
        ahead = arm.under_job.p_value <= SIGNIFICANT and arm.under_job.difference.value > 0
        meaning = {
            "random": ("The job's gain is more than that: the grader's information matters", "part of the gain may need no grader at all"),
            "format": ("The job's gain is more than form", "the gain is not shown to be more than form"),
            "sft": ("The job does better than learning the given answers", "learning the given answers is not shown to do worse"),
            "prompt": ("The job does better than examples in the prompt", "examples in the prompt are not shown to do worse"),
        }[name][0 if ahead else 1]
        return (
            f"{arm.meaning} {gained}. {meaning[0].upper()}{meaning[1:]} ({_signed(arm.under_job.difference)}, {_p(arm.under_job.p_value)})."
        )


def as_text(report: AblationReport) -> str:
    """For people: the table, then the conclusions."""
    from pinetune.bench.text import table

    rows = []
    for arm in report.arms:
        if arm.reward is None:
            rows.append([arm.name, "-", "-", "-", "-", arm.skipped])
            continue
        over = arm.over_base
        rows.append([arm.name, _interval(arm.reward), _signed(over.difference) if over else "-", _p(over.p_value) if over else "-",
                     str(arm.reward.n), arm.detail or arm.meaning])  # fmt: skip
    head = f"Controls on {report.held_out}, all graded by the job's grader; 95% intervals, paired tests"
    return "\n\n".join([head, table(["arm", "reward", "over base", "p", "n", ""], rows), "\n".join(report.conclusions())]).rstrip()


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"

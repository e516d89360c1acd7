"""Made-up runs for the alarms: a healthy one, and what to change for each fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pinetune.loop.alarms.watch import Watch
from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row, StepReport, UpdateReport

STEPS, EVERY = 30, 5


def step(number: int, **changes: Any) -> StepReport:
    """A step of a run that learns: reward 0.30 -> 0.60, length 40 -> 60 tokens."""
    share = number / STEPS
    update = UpdateReport(500, 0.1, 0.5, 1e-4, metrics={"entropy": 0.5 - 0.1 * share, "logprob_gap_max": 1e-5})
    report = StepReport(
        step=number, total_steps=STEPS, reward_mean=0.3 + 0.3 * share, reward_std=0.3, num_rollouts=32, num_ungraded=0, num_groups=8,
        num_flat_groups=2, num_refills=0, completion_tokens_mean=40 + 20 * share, reasoning_tokens_mean=20.0, truncated_fraction=0.0,
        update=update, seconds={"full_iteration": 1.0}, tokens_per_second=100.0,
        parts={"form": 0.9 + 0.05 * share, "right": 0.1 + 0.3 * share},
    )  # fmt: skip
    metrics = changes.pop("metrics", None)
    if metrics is not None:
        update = replace(update, metrics={**update.metrics, **metrics})
    if "skipped" in changes:
        update = replace(update, skipped=changes.pop("skipped"))
    return replace(report, update=update, **changes)


def evaluation(number: int, reward: float | None = None, top1: float | None = None) -> EvalReport:
    """100 rows; the reward rises from 0.30 to 0.55 and top-1 with it."""
    value = 0.3 + 0.25 * number / STEPS if reward is None else reward
    right = value - 0.1 if top1 is None else top1
    metrics = {"top1": Interval(right, right - 0.09, right + 0.09, 100)}
    return EvalReport(number, f"step {number}", Interval(value, value - 0.08, value + 0.08, 100), metrics, 0, 50.0, 20.0, 0.0, 1.0)


def groups(answer: Callable[[int, int], tuple[str, float]], rows: int = 8, samples: int = 4) -> list[Group]:
    """`answer(row, sample)` is the text and its reward; row i's right answer is "gene<i>"."""
    made = []
    for i in range(rows):
        row = Row(i, ({"role": "user", "content": f"case {i}"},), {"reference_answer": f"gene{i}"}, line=i + 1)
        rollouts = []
        for s in range(samples):
            text, value = answer(i, s)
            rollouts.append(Rollout(i, s, s, Completion((1, 2), (-0.5, -0.5), (False, False), "stop", text), Grade("ok", value)))
        made.append(Group(row, Prompt((5,)), tuple(rollouts)))
    return made


def honest(row: int, sample: int) -> tuple[str, float]:
    """The same long reasoning every time, ending in the right gene or in a wrong one."""
    prose = "The findings of this patient taken together point to one gene above all others, which is"
    return (f"{prose} gene{row}", 1.0) if sample % 2 else (f"{prose} gene{row + 50}", 0.0)


def alarms(
    change: Callable[[int], dict[str, Any]] = lambda number: {},
    held_out: Callable[[int], dict[str, Any]] = lambda number: {},
    answers: Callable[[int], Sequence[Group]] = lambda number: groups(honest),
) -> list[tuple[int, str]]:
    """(step, alarm) in the order they are said in a run of 30 steps with an evaluation every fifth."""
    watch = Watch()
    said = [(0, alarm.name) for alarm in watch.hear_evaluation(evaluation(0, **held_out(0)))]
    for number in range(1, STEPS + 1):
        said += [(number, alarm.name) for alarm in watch.hear_step(step(number, **change(number)), answers(number))]
        if number % EVERY == 0:
            said += [(number, alarm.name) for alarm in watch.hear_evaluation(evaluation(number, **held_out(number)))]
    return said

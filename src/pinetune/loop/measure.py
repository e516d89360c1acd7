"""The numbers of one step, computed from its groups."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pinetune.loop.config import TrainConfig
from pinetune.records import Group, StepReport, UpdateReport


@dataclass(slots=True)
class Timing:
    """Seconds of one step. Grading overlaps sampling and is not counted apart."""

    sampling: float = 0.0
    training: float = 0.0
    full_iteration: float = 0.0


def step_report(
    step: int, config: TrainConfig, groups: Sequence[Group], num_refills: int, update: UpdateReport, timing: Timing
) -> StepReport:
    """Means over all rollouts of the step, those of groups without spread included; rewards over the graded ones."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    graded = [r.grade for r in rollouts if r.grade.status == "ok"]
    rewards = [grade.value for grade in graded]
    lengths = [len(r.completion.token_ids) for r in rollouts]
    flat = sum(len(set(group.rewards())) < 2 for group in groups)
    part_names = sorted({name for grade in graded for name in grade.parts})
    return StepReport(
        step=step,
        total_steps=config.steps,
        reward_mean=statistics.fmean(rewards) if rewards else 0.0,
        reward_std=statistics.pstdev(rewards) if rewards else 0.0,
        num_rollouts=len(rollouts),
        num_ungraded=len(rollouts) - len(graded),
        num_groups=len(groups),
        num_flat_groups=flat,
        num_refills=num_refills,
        completion_tokens_mean=statistics.fmean(lengths) if lengths else 0.0,
        reasoning_tokens_mean=statistics.fmean(r.completion.reasoning_tokens for r in rollouts) if rollouts else 0.0,
        truncated_fraction=sum(r.completion.finish == "length" for r in rollouts) / max(1, len(rollouts)),
        update=update,
        seconds={"sampling": timing.sampling, "training": timing.training, "full_iteration": timing.full_iteration},
        tokens_per_second=sum(lengths) / max(1e-9, timing.sampling),
        parts={name: statistics.fmean(g.parts[name] for g in graded if name in g.parts) for name in part_names},
    )

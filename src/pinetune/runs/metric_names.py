"""One step or one evaluation as a flat row of numbers, under the names that scripts for the hosted product read.

The hosted product used two families of names over time and public code reads both, so both are written:
`train_reward_mean` and `train_mean_reward`, `valid_reward_mean` and `full_valid_mean_reward`.
"""

from __future__ import annotations

from typing import Any

from pinetune.records import EvalReport, StepReport


def step_row(report: StepReport) -> dict[str, Any]:
    update = report.update
    return {
        **update.metrics,  # first: the names below win
        "step": report.step,
        "total_steps": report.total_steps,
        "train_reward_mean": report.reward_mean,
        "train_mean_reward": report.reward_mean,
        "train_reward_std": report.reward_std,
        "train_reasoning_tokens_mean": report.reasoning_tokens_mean,
        "reasoning_tokens_mean": report.reasoning_tokens_mean,
        "completion_tokens_mean": report.completion_tokens_mean,
        "mean_unresponsive_rewards": report.num_ungraded / max(1, report.num_rollouts),  # share of rollouts without a reward
        "truncated_fraction": report.truncated_fraction,
        "num_rollouts": report.num_rollouts,
        "num_ungraded": report.num_ungraded,
        "num_groups": report.num_groups,
        "num_flat_groups": report.num_flat_groups,
        "num_refills": report.num_refills,
        "train_loss": update.loss,
        "grad_norm": update.grad_norm,
        "learning_rate": update.learning_rate,
        "trained_tokens": update.trained_tokens,
        "skipped": update.skipped,
        "tokens_per_second": report.tokens_per_second,
        **{f"{name}_seconds": value for name, value in report.seconds.items()},
        **{f"graders/{name}/train_reward_mean": value for name, value in report.parts.items()},
    }


def eval_row(report: EvalReport) -> dict[str, Any]:
    grades = [rollout.grade for group in report.groups for rollout in group.rollouts]
    row: dict[str, Any] = {
        "valid_reward_mean": report.reward.value,
        "full_valid_mean_reward": report.reward.value,
        "valid_reward_low": report.reward.low,
        "valid_reward_high": report.reward.high,
        "valid_n": report.reward.n,
        "valid_ungraded": report.num_ungraded,
        "valid_reasoning_tokens_mean": report.reasoning_tokens_mean,
        "valid_completion_tokens_mean": report.completion_tokens_mean,
        "valid_truncated_fraction": report.truncated_fraction,
        "full_valid_mean_parse_error": sum(g.error_kind == "sample_parse_error" for g in grades) / max(1, len(grades)),
        "eval_seconds": report.seconds,
    }
    for name, interval in report.metrics.items():
        row |= {f"valid_{name}": interval.value, f"valid_{name}_low": interval.low, f"valid_{name}_high": interval.high}
    return row

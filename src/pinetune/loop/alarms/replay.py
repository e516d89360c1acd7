"""A run's history read back from its metrics lines, for a job that goes on and for whoever looks at an old run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pinetune.records import EvalReport, Interval, StepReport, UpdateReport

UPDATE = ("entropy", "clip_fraction", "logprob_gap_max", "ratio_max", "kl")
METRICS = ("top1", "top5", "topmax", "mrr")


def step_reports(rows: Iterable[Mapping[str, Any]]) -> list[StepReport]:
    """The steps among rows of metrics.jsonl, as far as alarms read them. What was not finite stands there as null and is left out."""
    return [_step(row) for row in rows if row.get("train_reward_mean") is not None]


def eval_reports(rows: Iterable[Mapping[str, Any]]) -> list[EvalReport]:
    return [_eval(row) for row in rows if row.get("valid_reward_mean") is not None]


def _step(row: Mapping[str, Any]) -> StepReport:
    parts = {key.split("/")[1]: value for key, value in row.items() if key.startswith("graders/") and key.endswith("/train_reward_mean")}
    return StepReport(
        step=row["step"],
        total_steps=row.get("total_steps", 0),
        reward_mean=row["train_reward_mean"],
        reward_std=row.get("train_reward_std", 0.0),
        num_rollouts=row.get("num_rollouts", 0),
        num_ungraded=row.get("num_ungraded", 0),
        num_groups=row.get("num_groups", 0),
        num_flat_groups=row.get("num_flat_groups", 0),
        num_refills=row.get("num_refills", 0),
        completion_tokens_mean=row.get("completion_tokens_mean", 0.0),
        reasoning_tokens_mean=row.get("reasoning_tokens_mean", 0.0),
        truncated_fraction=row.get("truncated_fraction", 0.0),
        update=UpdateReport(
            trained_tokens=row.get("trained_tokens", 0),
            loss=row.get("train_loss") or 0.0,
            grad_norm=row.get("grad_norm") or 0.0,
            learning_rate=row.get("learning_rate", 0.0),
            skipped=row.get("skipped", ""),
            metrics={name: row[name] for name in UPDATE if row.get(name) is not None},
        ),
        seconds={},
        tokens_per_second=row.get("tokens_per_second", 0.0),
        parts={name: value for name, value in parts.items() if value is not None},
    )


def _eval(row: Mapping[str, Any]) -> EvalReport:
    def interval(name: str, value: str) -> Interval:
        return Interval(row[value], row[f"valid_{name}_low"], row[f"valid_{name}_high"], row.get("valid_n", 0))

    return EvalReport(
        step=row["step"],
        name=f"step {row['step']}" if row["step"] else "base",
        reward=interval("reward", "valid_reward_mean"),
        metrics={name: interval(name, f"valid_{name}") for name in METRICS if row.get(f"valid_{name}") is not None},
        num_ungraded=row.get("valid_ungraded", 0),
        completion_tokens_mean=row.get("valid_completion_tokens_mean", 0.0),
        reasoning_tokens_mean=row.get("valid_reasoning_tokens_mean", 0.0),
        truncated_fraction=row.get("valid_truncated_fraction", 0.0),
        seconds=row.get("eval_seconds", 0.0),
    )

"""Advantages: how much better each rollout was than the others of its group.

One small file per scheme, one line in the table. Each takes the rewards of a whole batch, ragged by group
(`rewards_PG[p][g]`, graded rollouts only), and returns advantages of the same shape; a group of equal rewards gets zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pinetune.training.advantages.batch_std import batch_std
from pinetune.training.advantages.group_mean import group_mean
from pinetune.training.advantages.group_std import group_std
from pinetune.training.advantages.rloo import rloo

Rewards = Sequence[Sequence[float]]
Advantage = Callable[[Rewards], list[list[float]]]

ADVANTAGES: dict[str, Advantage] = {
    "group_mean": group_mean,
    "group_std": group_std,
    "batch_std": batch_std,
    "rloo": rloo,
}

__all__ = ["ADVANTAGES", "Advantage", "Rewards", "batch_std", "group_mean", "group_std", "rloo"]

"""Reward minus the group's mean, over the group's standard deviation (GRPO, arXiv 2402.03300, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

EPSILON = 1e-6  # keeps a group of equal rewards at zero instead of 0/0


def group_std(rewards_PG: Sequence[Sequence[float]]) -> list[list[float]]:
    """`(reward - mean) / (std + 1e-6)` per group, population std. An empty group stays empty."""
    advantages_PG = []
    for rewards_G in rewards_PG:
        std = pstdev(rewards_G) if rewards_G else 0.0
        advantages_PG.append([(reward - fmean(rewards_G)) / (std + EPSILON) for reward in rewards_G])
    return advantages_PG

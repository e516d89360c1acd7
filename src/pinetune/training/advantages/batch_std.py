"""Group mean taken off, then divided by one standard deviation of the whole batch (REINFORCE++-baseline, arXiv 2501.03262).

Keeps the step size steady whatever the grader's scale, without favouring prompts of small spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import pstdev

from pinetune.training.advantages.group_mean import group_mean

EPSILON = 1e-6


def batch_std(rewards_PG: Sequence[Sequence[float]]) -> list[list[float]]:
    """`(reward - group mean) / (std + 1e-6)`, std = population std of all centred rewards of the batch."""
    centred_PG = group_mean(rewards_PG)
    flat = [value for centred_G in centred_PG for value in centred_G]
    std = pstdev(flat) if flat else 0.0
    return [[value / (std + EPSILON) for value in centred_G] for centred_G in centred_PG]

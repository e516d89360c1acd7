"""Reward minus the group's mean, no division by a deviation (Dr. GRPO, arXiv 2503.20783, section 3.2).

Dividing by the group's std would weigh nearly solved and nearly hopeless prompts up; this is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def group_mean(rewards_PG: Sequence[Sequence[float]]) -> list[list[float]]:
    """`advantage[p][g] = reward[p][g] - mean(reward[p])`. An empty group stays empty."""
    return [[reward - fmean(rewards_G) for reward in rewards_G] for rewards_G in rewards_PG]

"""Reward minus the mean of the *other* rollouts of the group: leave-one-out REINFORCE (arXiv 2402.14740, equation 8)."""

from __future__ import annotations

from collections.abc import Sequence


def rloo(rewards_PG: Sequence[Sequence[float]]) -> list[list[float]]:
    """`reward[g] - mean(reward[others])`, an unbiased baseline. A group of one has no others: its advantage is 0."""
    advantages_PG = []
    for rewards_G in rewards_PG:
        total, num_others = sum(rewards_G), len(rewards_G) - 1
        advantages_PG.append([reward - (total - reward) / num_others if num_others else 0.0 for reward in rewards_G])
    return advantages_PG

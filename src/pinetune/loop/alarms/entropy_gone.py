"""The policy has become sure of every token: it tries nothing new any more, so it can learn nothing new."""

from __future__ import annotations

from pinetune.loop.alarms.history import RECENT, START, Alarm, History, entropies, mean

NAME = "entropy_gone"
LOST = 0.2  # of the entropy it began with; the healthy miniature stays above 0.6 of it
LEAST = 3  # steps with so little, in a row
SOLVED = 0.9  # whoever is right may be sure


def check(history: History) -> Alarm | None:
    found = entropies(history.steps)
    if len(found) <= LEAST:
        return None
    start = max(found[:START])  # not their mean: a collapse within the first steps must not set the mark
    now = found[-LEAST:]
    reward = mean(history.steps[-RECENT:], lambda r: r.reward_mean)
    if max(now) >= LOST * start or reward >= SOLVED:
        return None
    return Alarm(
        NAME,
        f"The model is sure of every token: entropy fell from {start:.3g} to {now[-1]:.3g} nats a token at a reward of {reward:.2f}. It "
        "no longer tries other answers, so it cannot find better ones. Go back to an earlier checkpoint with a lower learning rate, or "
        "add a little kl_coefficient.",
        {"start": start, "now": now[-1], "reward": reward},
    )

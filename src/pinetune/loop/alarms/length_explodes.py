"""Answers grow until the token limit cuts them off, or grow without measure.

Longer is not wrong by itself: on the healthy miniature thinking grows to 2.7 times its length, and nothing is cut off.
"""

from __future__ import annotations

from pinetune.loop.alarms.history import RECENT, START, Alarm, History, mean

NAME = "length_explodes"
GROWN, CUT = 1.5, 0.2  # times its length at the start, and this share of answers cut off at the limit
MORE_CUT = 0.1  # than at the start: a limit that was too low from the beginning is another matter
EXPLODED = 4.0  # times its length at the start, cut off or not


def check(history: History) -> Alarm | None:
    if len(history.steps) < START + RECENT:
        return None
    start, now = history.steps[:START], history.steps[-RECENT:]
    before, after = mean(start, lambda r: r.completion_tokens_mean), mean(now, lambda r: r.completion_tokens_mean)
    cut = mean(now, lambda r: r.truncated_fraction)
    running_into_the_limit = cut >= CUT and cut - mean(start, lambda r: r.truncated_fraction) >= MORE_CUT
    grown = after / max(1.0, before)
    if not (grown >= EXPLODED or (grown >= GROWN and running_into_the_limit)):
        return None
    rewards = [mean(part, lambda r: r.reward_mean) for part in (start, now)]
    return Alarm(
        NAME,
        f"Answers grew from {before:.0f} to {after:.0f} tokens and {cut:.0%} of them are cut off at the limit, while the reward went from "
        f"{rewards[0]:.2f} to {rewards[1]:.2f}. If the reward rose with it, the grader may pay for length (pinetune grader test shows "
        "it); if not, lower thinking_budget or the learning rate.",
        {"tokens": [before, after], "cut_off": cut, "reward": rewards},
    )

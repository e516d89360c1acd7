"""Most groups have one reward for all their answers: nothing to learn from."""

from __future__ import annotations

from pinetune.loop.alarms import entropy_gone
from pinetune.loop.alarms.history import RECENT, Alarm, History, mean

NAME = "no_spread"
FLAT = 0.8  # of the groups of five steps; the healthy miniature's highest is 0.56
SOLVED, HOPELESS = 0.9, 0.1  # mean rewards
BLIND = 1e-9  # standard deviation over all answers of a step


def check(history: History) -> Alarm | None:
    recent = history.steps[-RECENT:]
    if len(recent) < RECENT or entropy_gone.check(history) is not None:  # that is the cause then, and says so
        return None
    flat = sum(r.num_flat_groups for r in recent) / max(1, sum(r.num_groups for r in recent))
    if flat < FLAT:
        return None
    reward = mean(recent, lambda r: r.reward_mean)
    return Alarm(
        NAME,
        f"In {flat:.0%} of the groups of the last {RECENT} steps all answers got the same reward (mean {reward:.2f}), so there is nothing "
        f"to learn from them. {_advice(reward, max(r.reward_std for r in recent))}",
        {"flat": flat, "reward": reward},
    )


def _advice(reward: float, spread: float) -> str:
    if reward >= SOLVED:
        return "The training rows are solved: stop here, or add harder ones."
    if spread <= BLIND:
        return "Every row got it too, so the grader does not look at the answer: try it (pinetune grader test)."
    if reward <= HOPELESS:
        return "Hardly any answer is right: warm up on worked answers (a supervised job), pay for partial answers, or take a larger model."
    return (
        "Some rows are answered rightly every time and the others never: raise group_size so that rarer answers occur, pay for partial "
        "answers, or add rows that lie in between."
    )

"""A part of the grader pays everybody, or nobody: it costs weight and teaches nothing."""

from __future__ import annotations

from pinetune.loop.alarms.history import Alarm, History, mean

NAME = "part_saturated"
STEPS = 10  # in a row
HIGH, LOW = 0.98, 0.02
SOLVED = 0.9  # of the whole reward: then every part is full, and rightly


def check(history: History) -> Alarm | None:
    recent = history.steps[-STEPS:]
    names = sorted(set.intersection(*(set(r.parts) for r in recent))) if recent else []
    if len(recent) < STEPS or len(names) < 2 or mean(recent, lambda r: r.reward_mean) >= SOLVED:
        return None
    full = {name for name in names if min(r.parts[name] for r in recent) >= HIGH}
    empty = {name for name in names if max(r.parts[name] for r in recent) <= LOW}
    stuck = sorted(full | empty)
    if not stuck or len(stuck) == len(names):  # where every part stands still the groups have no spread, which is said elsewhere
        return None
    shown = ", ".join(f"{name} at {recent[-1].parts[name]:.2f}" for name in stuck)
    full_advice = "What everybody gets teaches nothing more: raise its bar, or give its weight to the parts that vary. "
    empty_advice = "What nobody gets teaches nothing yet: pay for steps on the way to it. "
    return Alarm(
        NAME,
        f"For {STEPS} steps a part of the grader has not moved: {shown}. {full_advice if full else ''}{empty_advice if empty else ''}"
        "For a mere check of the form this is as it should be.",
        {"parts": {name: recent[-1].parts[name] for name in stuck}},
    )

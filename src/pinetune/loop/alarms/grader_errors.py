"""The grader fails on a share of the answers; those are left out of training. (Above one half the job stops: `loop.health`.)"""

from __future__ import annotations

from pinetune.loop.alarms.history import Alarm, History
from pinetune.loop.health import reasons

NAME = "grader_errors"
SHARE = 0.05  # of the answers of three steps: from here on what is left out is hardly chance (the long, the odd, the best ones)
STEPS = 3
FEWEST = 3  # answers


def check(history: History) -> Alarm | None:
    recent = history.steps[-STEPS:]
    ungraded, total = sum(r.num_ungraded for r in recent), sum(r.num_rollouts for r in recent)
    if len(recent) < STEPS or ungraded < FEWEST or ungraded / total < SHARE:
        return None
    why = reasons(history.groups, most=1)
    return Alarm(
        NAME,
        f"{ungraded} of the last {total} answers ({ungraded / total:.0%}) could not be graded and are left out of training. Where the "
        f"answer is to blame, let the grader return 0 instead of failing.{' The commonest reason: ' + why if why else ''}",
        {"ungraded": ungraded, "answers": total, "reason": why},
    )

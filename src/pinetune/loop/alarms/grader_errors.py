"""The grader fails on a share of the answers; those are left out of training. (Above one half the job stops: `loop.health`.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pinetune.loop.alarms.history import Alarm, History
from pinetune.records import Group

NAME = "grader_errors"
SHARE = 0.05  # of the answers of three steps: from here on what is left out is hardly chance (the long, the odd, the best ones)
STEPS = 3
FEWEST = 3  # answers
TOLD_CHARS, SHOWN_CHARS = 200, 600  # of the reason in the message, and of the traceback in `data`


def check(history: History) -> Alarm | None:
    recent = history.steps[-STEPS:]
    ungraded, total = sum(r.num_ungraded for r in recent), sum(r.num_rollouts for r in recent)
    if len(recent) < STEPS or ungraded < FEWEST or ungraded / total < SHARE:
        return None
    reason, details = _commonest(history.groups)
    return Alarm(
        NAME,
        f"{ungraded} of the last {total} answers ({ungraded / total:.0%}) could not be graded and are left out of training. Where the "
        f"answer is to blame, let the grader return 0 instead of failing.{' The commonest reason: ' + reason if reason else ''}",
        {"ungraded": ungraded, "answers": total, "reason": reason, "details": details},
    )


def _commonest(groups: Sequence[Group]) -> tuple[str, str]:
    """(what a traceback ends with, one such traceback): its upper lines differ from answer to answer, and say little to most."""
    failed = [rollout.grade for group in groups for rollout in group.rollouts if rollout.grade.status != "ok"]
    said = Counter(_last_line(grade.explanation) or grade.error_kind for grade in failed)
    if not said:
        return "", ""
    reason = said.most_common(1)[0][0]
    details = next(g.explanation for g in failed if (_last_line(g.explanation) or g.error_kind) == reason)
    return reason, details.strip()[-SHOWN_CHARS:]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()[:TOLD_CHARS]

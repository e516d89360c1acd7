"""What grading cost and where it failed, in one step's rollouts, as columns of the step's metrics line.

`{when}_{flag}_count` stands only where it is above 0; a reader fills in zeros. `when` is "train" or "valid".
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pinetune.records import Group

TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def grading_columns(when: str, groups: Iterable[Group]) -> dict[str, Any]:
    """Columns of the rollouts of `groups`; {} where there are none."""
    grades = [rollout.grade for group in groups for rollout in group.rollouts]
    if not grades:
        return {}
    row: dict[str, Any] = {f"{when}_num_grades": len(grades), f"{when}_grading_seconds_mean": statistics.fmean(g.seconds for g in grades)}
    flags = Counter(grade.error_kind or "other_error" for grade in grades if grade.status != "ok")
    row |= {f"{when}_{flag}_count": count for flag, count in sorted(flags.items())}
    graded = [grade for grade in grades if grade.status == "ok"]
    for name in sorted({name for grade in graded for name in grade.parts}):
        row[f"graders/{name}/{when}_reward_mean"] = statistics.fmean(g.parts[name] for g in graded if name in g.parts)
    for model in sorted({model for grade in grades for model in grade.usage}):
        for kind in TOKENS:
            row[f"judges/{model}/{when}_{kind}"] = sum(grade.usage.get(model, {}).get(kind, 0) for grade in grades)
    return row

"""A grader beside expert labels: rank correlation, agreement on pass or fail, and where they differ most."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence

from pinetune.bench.options import Labelled
from pinetune.bench.report import Agreement, Disagreement
from pinetune.records import Grade

SHOWN = 5
SHOWN_CHARS = 160


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs.

    >>> ranks([0.2, 0.9, 0.2])
    [1.5, 3.0, 1.5]
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start : end + 1]:
            result[i] = (start + end) / 2 + 1
        start = end + 1
    return result


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks, in -1..1; None where one side never varies.

    >>> spearman([1, 2, 3, 4], [1, 3, 2, 4])
    0.8
    """
    a, b = ranks(left), ranks(right)
    mean = (len(a) + 1) / 2
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True)) / spread if spread else None


def cohen_kappa(left: Sequence[bool], right: Sequence[bool]) -> float | None:
    """Agreement of two verdicts beyond chance: 1 = always, 0 = as by chance; None where both always say the same.

    Cohen, J. (1960), A coefficient of agreement for nominal scales.

    >>> cohen_kappa([True, True, False, False], [True, False, False, False])
    0.5
    """
    n = len(left)
    observed = sum(a == b for a, b in zip(left, right, strict=True)) / n
    yes, also = sum(left) / n, sum(right) / n
    chance = yes * also + (1 - yes) * (1 - also)
    return None if chance == 1 else (observed - chance) / (1 - chance)


def agreement(labelled: Sequence[Labelled], grades: Sequence[Grade], threshold: float) -> Agreement:
    """Ungraded answers are counted and left out. A verdict is "pass" where label or grade is at least the threshold."""
    graded = [(case, grade.value) for case, grade in zip(labelled, grades, strict=True) if grade.status == "ok"]
    if not graded:
        return Agreement(0, len(labelled), None, None, 0.0, marked=sum(case.marked for case in labelled))
    labels = [case.label for case, _ in graded]
    values = [value for _, value in graded]
    says = [(label >= threshold, value >= threshold) for label, value in zip(labels, values, strict=True)]
    apart = sorted(graded, key=lambda pair: -abs(pair[0].label - pair[1]))[:SHOWN]
    return Agreement(
        n=len(graded),
        ungraded=len(labelled) - len(graded),
        spearman=spearman(labels, values) if len(graded) > 1 else None,
        kappa=cohen_kappa([a for a, _ in says], [b for _, b in says]),
        same_verdict=sum(a == b for a, b in says) / len(says),
        worst=tuple(_apart(case, value) for case, value in apart if abs(case.label - value) > 0.1),
        marked=sum(case.marked for case in labelled),
        missed=_missed(graded, threshold),
    )


def _missed(graded: Sequence[tuple[Labelled, float]], threshold: float) -> tuple[Disagreement, ...]:
    says: dict[str, set[bool]] = defaultdict(set)
    for case, _ in graded:
        if case.marked:
            says[_name(case)].add(case.label >= threshold)
    return tuple(_apart(case, value) for case, value in graded if case.marked and says[_name(case)] == {value < threshold})


def _name(case: Labelled) -> str:
    return json.dumps([dict(case.row.item), case.answer], sort_keys=True, default=str)


def _apart(case: Labelled, grade: float) -> Disagreement:
    return Disagreement(case.row.line, case.label, grade, " ".join(case.answer.split())[:SHOWN_CHARS])

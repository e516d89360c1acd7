"""A gain in two parts: more answers that have the form at all, and better answers among those that have it.

Mean reward = P(form) * mean reward given the form (an answer without it counts what it got, usually 0). The format part is what the base
would have gained had only P(form) risen to the tuned model's; the capability part is the rest. It needs no further training. What a base
that never has the form would earn in it nobody has seen: then there is no split.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pinetune.evals.evaluate import clusters_of
from pinetune.evals.statistics import by_cluster
from pinetune.loop.ablation.controls import FormatCheck
from pinetune.records import EvalReport, Group, Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RESAMPLES = 4_000


@dataclass(frozen=True, slots=True)
class GainSplit:
    """`total` = `form` + `capability`, both None where the base never has the form; `base_share`, `tuned_share`: answers that have it."""

    total: Interval
    form: Interval | None
    capability: Interval | None
    base_share: float
    tuned_share: float


def split_gain(
    base: EvalReport, tuned: EvalReport, check: FormatCheck, *, answer_field: str | None, cluster_by_answer: bool, seed: int = 0
) -> GainSplit:
    """Over the rows that both have a grade for; 95% percentile intervals over resampled answer groups."""
    import numpy as np

    ours, theirs = ({g.row.index: g for g in report.groups if g.graded()} for report in (base, tuned))
    shared = sorted(ours.keys() & theirs.keys())
    clusters = clusters_of([ours[i] for i in shared], answer_field if cluster_by_answer else None)
    columns = [_column([_values(of[i], check)[k] for i in shared], clusters) for of in (ours, theirs) for k in range(3)]
    sizes = by_cluster([1.0] * len(shared), clusters).sizes
    rng = np.random.default_rng(seed)
    draws = [np.arange(len(sizes))] + [rng.integers(0, len(sizes), len(sizes)) for _ in range(RESAMPLES)]
    parts = np.array([_parts([column[drawn].sum() / sizes[drawn].sum() for column in columns]) for drawn in draws])
    low, high = np.quantile(parts[1:], [0.025, 0.975], axis=0)
    total, form, capability = (Interval(float(parts[0, k]), float(low[k]), float(high[k]), len(shared)) for k in range(3))
    base_share, tuned_share = (float(columns[k].sum() / sizes.sum()) for k in (0, 3))
    if base_share == 0:
        return GainSplit(total, None, None, base_share, tuned_share)
    return GainSplit(total, form, capability, base_share, tuned_share)


def _column(values: Sequence[float], clusters: Sequence[Hashable]) -> npt.NDArray[np.float64]:
    return by_cluster(values, clusters).sums


def _values(group: Group, check: FormatCheck) -> tuple[float, float, float]:
    """(share with the form, reward earned with it, reward earned without it), means over the row's graded answers."""
    graded = [(check(r.completion), r.grade.value) for r in group.graded()]
    has = statistics.fmean(ok for ok, _ in graded)
    with_it = statistics.fmean(value if ok else 0.0 for ok, value in graded)
    return has, with_it, statistics.fmean(0.0 if ok else value for ok, value in graded)


def _parts(means: Sequence[float]) -> tuple[float, float, float]:
    """(total, form, capability) of (share, reward with, reward without the form) of base and tuned."""
    share0, with0, without0, share1, with1, without1 = means
    given0, miss0 = (with0 / share0 if share0 else 0.0), (without0 / (1 - share0) if share0 < 1 else 0.0)
    total = (with1 + without1) - (with0 + without0)
    form = (share1 - share0) * (given0 - miss0)
    return total, form, total - form

"""The best of many checkpoints is also the luckiest: by how much its held-out score flatters it.

Rows are drawn anew with their clusters (bootstrap), the best checkpoint is chosen on the draw, and its score there is compared with its
score on all rows: the mean excess is the optimism of the choice (Efron & Gong, Am. Stat. 1983). It takes into account that checkpoints
answer the same rows and go up and down together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from pinetune.evals.evaluate import clusters_of, row_reward
from pinetune.evals.statistics import by_cluster
from pinetune.records import EvalReport

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Selection:
    """`flattery`: by how much the best of `tried` checkpoints looks better, by its choice alone, than it is (in units of the reward)."""

    tried: int
    flattery: float
    n: int  # rows

    def words(self) -> str:
        """One sentence; "" where nothing was chosen."""
        if self.tried < 2:
            return ""
        return (
            f"The kept step is the best of {self.tried} that were tried on these {self.n} rows; the choice alone makes its reward "
            f"look about {self.flattery:.2f} better than it is."
        )


def selection(reports: Sequence[EvalReport], answer_field: str | None, cluster_by_answer: bool = True) -> Selection:
    """Of the evaluations a checkpoint was chosen from, on the rows that all of them could grade. They need their groups."""
    by_row = [{group.row.index: group for group in report.groups if group.graded()} for report in reports]
    shared = sorted(set.intersection(*map(set, by_row))) if by_row else []
    if len(reports) < 2 or not shared:
        return Selection(len(reports), 0.0, len(shared))
    clusters = clusters_of([by_row[0][index] for index in shared], answer_field if cluster_by_answer else None)
    return Selection(len(reports), optimism([[row_reward(of[index]) for index in shared] for of in by_row], clusters), len(shared))


def optimism(values: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> float:
    """Mean excess of the best of several scores; `values[c][i]` is checkpoint c's on row i. 0 for a single one."""
    import numpy as np

    if len(values) < 2:
        return 0.0
    per_checkpoint = [by_cluster(of_rows, clusters) for of_rows in values]
    sums, sizes = np.stack([found.sums for found in per_checkpoint]), per_checkpoint[0].sizes
    means = sums.sum(axis=1) / sizes.sum()
    rng = np.random.default_rng(seed)
    excess = 0.0
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(sizes), len(sizes))
        scores = sums[:, drawn].sum(axis=1) / sizes[drawn].sum()
        best = int(scores.argmax())
        excess += float(scores[best] - means[best])
    return excess / RESAMPLES

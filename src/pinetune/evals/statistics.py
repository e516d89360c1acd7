"""Intervals and paired tests that respect answer groups.

Rows that share a reference answer (a gene, a code) succeed and fail together, so rows are not independent: whole
clusters of rows are resampled, never single rows. Everything is deterministic given the seed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from pinetune.evals.mcnemar import sign_test
from pinetune.records import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

NORMAL = NormalDist()
Z = NORMAL.inv_cdf(0.975)
RESAMPLES = 10_000
FLIPS = 20_000  # smallest reportable p-value: 1 / 20,001
EXACT_CLUSTERS = 14  # up to 2^14 = 16,384 sign patterns are enumerated instead of drawn
# Below these a bootstrap sees too little of the spread (it would call 0 of 200 certain) and the interval is Wilson's.
MIN_CLUSTERS = 10.0
MIN_DEVIATING = 5
BLOCK = 2_000_000  # numbers drawn at once, 16 MB


@dataclass(frozen=True, slots=True)
class PairedResult:
    """`difference` is mean(b) - mean(a) over the same rows; `p_value` is two-sided, for "there is no difference"."""

    difference: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class Clusters:
    """Sum and number of values of each cluster, in order of first appearance."""

    sums: FloatArray
    sizes: FloatArray

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def effective(self) -> float:
        """Kish's effective number of clusters, (sum m)^2 / sum m^2: their count when all have one size, fewer otherwise."""
        return float(self.sizes.sum() ** 2 / (self.sizes**2).sum())

    @property
    def deviating(self) -> int:
        """How many clusters' means differ from the commonest cluster mean."""
        import numpy as np

        _, counts = np.unique(np.round(self.sums / self.sizes, 9), return_counts=True)
        return int(counts.sum() - counts.max())


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Interval:
    """Mean of `values` with its 95% interval; `clusters[i]` names the answer group of value i (None: each its own).

    Values of 0 and 1: Wilson's score interval (JASA 1927); where rows share clusters, with the number of independent rows that
    would scatter as much, cut by t over normal quantiles (Korn & Graubard, Survey Methodology 1998; `independent_rows`). Other
    values: BCa bootstrap over clusters (Efron, JASA 1987), its levels widened for few clusters by the t quantile as in
    Hesterberg's expanded percentile interval (Am. Stat. 2015). Simulated on 50 to 200 rows, alone and in clusters, they cover
    93 to 97%, and 97.5% in one setting (benchmarks/coverage.py, docs/results.md "Coverage"); the bootstrap alone covered 97 to 99%
    of binary rows at n = 50.

    Where fewer than ten (effective) clusters, or fewer than five that differ from the rest, leave the bootstrap blind
    (all 0, all 1, one row): Wilson's score interval (JASA 1927) with the effective number of clusters as its n. That is
    cautious: it takes the rows of one cluster as copies of each other, and it holds for any values in [0, 1], whose
    variance is at most p(1 - p). Values outside [0, 1] are scaled into it by their own range.

    Raises ValueError for no values, or one that is not finite.

    >>> interval = mean_interval([0.0] * 200)
    >>> (interval.value, interval.low, round(interval.high, 4), interval.n)
    (0.0, 0.0, 0.0188, 200)
    """
    grouped = by_cluster(values, clusters)
    low, high = min(0.0, *values), max(1.0, *values)
    if set(values) == {0, 1} and grouped.effective >= MIN_CLUSTERS:
        bounds = wilson(grouped.mean, independent_rows(grouped))
    elif _bootstrap_sees_enough(grouped):
        bounds = _bca(grouped, seed)
    else:
        scale = high - low
        unit = wilson((grouped.mean - low) / scale, grouped.effective)
        bounds = (low + scale * unit[0], low + scale * unit[1])
    return Interval(grouped.mean, max(low, bounds[0]), min(high, bounds[1]), len(values))


def paired_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> PairedResult:
    """Mean of b - a over the same rows, with a 95% interval and a two-sided p-value; `clusters` as in `mean_interval`.

    The p-value is the paired permutation test with whole clusters' signs flipped (Fisher 1935; exact up to 14 clusters
    with a difference, and at any number where all differences are of one size, as with 0/1 values a row: that is McNemar's
    exact test; else 20,000 draws counted as (k + 1) / (n + 1), Phipson & Smyth, SAGMB 2010). Where the bootstrap
    is blind, gains and losses get a Wilson interval each and the two are combined at their worst (`_cautious_difference`).

    >>> paired_difference([0, 0, 0, 0], [1, 1, 1, 1]).p_value  # 2 of the 16 sign patterns are as extreme
    0.125
    """
    if len(a) != len(b):
        raise ValueError(f"paired values must have one length, not {len(a)} and {len(b)}")
    differences = [y - x for x, y in zip(a, b, strict=True)]
    grouped = by_cluster(differences, clusters)
    low, high = _bca(grouped, seed) if _bootstrap_sees_enough(grouped) else _cautious_difference(differences, clusters)
    interval = Interval(grouped.mean, low, high, len(differences))
    return PairedResult(interval, sign_flip_p_value(grouped, seed))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a share of `n` (which need not be whole); exactly 0 or 1 at the ends."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(max(0.0, share * (1 - share)) / n + Z * Z / (4 * n * n))
    return (0.0 if share <= 0 else centre - half), (1.0 if share >= 1 else centre + half)


def independent_rows(grouped: Clusters) -> float:
    """Of clustered 0/1 values with both kinds among them: how many rows that stand alone would give a mean as uncertain; at most
    as many as there are. Rows that do stand alone count in full.
    """
    from scipy.special import stdtrit

    count, rows = len(grouped.sums), float(grouped.sizes.sum())
    if count == rows:
        return rows
    residuals = grouped.sums - grouped.mean * grouped.sizes
    variance = float((residuals**2).sum()) * count / (count - 1) / rows**2
    independent = min(rows, grouped.mean * (1 - grouped.mean) / variance) if variance > 0 else rows
    return max(1.0, independent * (Z / float(stdtrit(count - 1, 0.975))) ** 2)


def sign_flip_p_value(grouped: Clusters, seed: int = 0) -> float:
    """Share of sign patterns over clusters whose summed difference is at least as far from 0 as the observed one."""
    import numpy as np

    sums = grouped.sums[np.abs(grouped.sums) > 1e-12]  # a cluster without a difference flips to itself
    if len(sums) == 0:
        return 1.0
    sizes = np.abs(sums)
    if float(sizes.max() - sizes.min()) <= 1e-9 * float(sizes.max()):  # only how many go up and how many down matters
        return sign_test(int((sums > 0).sum()), int((sums < 0).sum()))
    # Tolerance: the same sum added up in another order may differ in the last digits and must still count.
    observed = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    if len(sums) <= EXACT_CLUSTERS:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ sums) >= observed))
    rng = np.random.default_rng(seed)
    extreme = 0
    for count in _blocks(FLIPS, len(sums)):
        signs = 2.0 * rng.integers(0, 2, (count, len(sums)), dtype=np.int8) - 1.0
        extreme += int(np.sum(np.abs(signs @ sums) >= observed))
    return (extreme + 1) / (FLIPS + 1)


def by_cluster(values: Sequence[float], clusters: Sequence[Hashable] | None) -> Clusters:
    """Raises ValueError for no values, one that is not finite, or another number of cluster names."""
    import numpy as np

    if len(values) == 0:
        raise ValueError("a mean needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("a mean needs finite values; what could not be graded must be left out")
    if clusters is None:
        return Clusters(array, np.ones_like(array))
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster names")
    numbers: dict[Hashable, int] = {}
    which = np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
    return Clusters(np.bincount(which, weights=array).astype(np.float64), np.bincount(which).astype(np.float64))


def _bootstrap_sees_enough(grouped: Clusters) -> bool:
    return grouped.effective >= MIN_CLUSTERS and grouped.deviating >= MIN_DEVIATING


def _bca(grouped: Clusters, seed: int) -> tuple[float, float]:
    """BCa limits of the mean over resampled clusters, at levels widened by t over normal quantiles."""
    import numpy as np
    from scipy.special import stdtrit

    means = _resampled_means(grouped, seed)
    observed, count = grouped.mean, len(grouped.sums)
    below = (np.mean(means < observed) + np.mean(means <= observed)) / 2  # ties are common with binary values
    bias = NORMAL.inv_cdf(float(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES)))
    without_one = (grouped.sums.sum() - grouped.sums) / (grouped.sizes.sum() - grouped.sizes)
    influence = without_one.mean() - without_one
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    reach = math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, 0.975))

    def level(z: float) -> float:
        return NORMAL.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    low, high = np.quantile(means, [level(-reach), level(reach)])
    return float(low), float(high)


def _resampled_means(grouped: Clusters, seed: int) -> FloatArray:
    import numpy as np

    rng = np.random.default_rng(seed)
    count, parts = len(grouped.sums), []
    for block in _blocks(RESAMPLES, count):
        drawn = rng.integers(0, count, (block, count))
        parts.append(grouped.sums[drawn].sum(axis=1) / grouped.sizes[drawn].sum(axis=1))
    return np.concatenate(parts)


def _blocks(total: int, width: int) -> list[int]:
    """Split `total` draws of `width` numbers into blocks of bounded memory."""
    size = max(1, BLOCK // width)
    return [min(size, total - start) for start in range(0, total, size)]


def _cautious_difference(differences: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[float, float]:
    """Limits of a mean difference from the mean gain g and the mean loss l: [low(g) - high(l), high(g) - low(l)].

    As Newcombe's interval for paired proportions (Stat. Med. 1998, 2635) with the correlation of gain and loss at
    its worst, -1, where the two half-widths add. Without any difference in 100 clusters this is [-0.037, 0.037].
    """
    scale = max(1.0, *(abs(d) for d in differences))
    gains = by_cluster([max(0.0, d) / scale for d in differences], clusters)
    losses = by_cluster([max(0.0, -d) / scale for d in differences], clusters)
    gain, loss = wilson(gains.mean, gains.effective), wilson(losses.mean, losses.effective)
    return scale * (gain[0] - loss[1]), scale * (gain[1] - loss[0])

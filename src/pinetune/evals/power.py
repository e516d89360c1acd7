"""What a number of rows can show at all: the smallest difference found with 80% power, and the rows a difference needs.

The usual formula of a two-sided paired test at 5% (Cohen, Statistical Power Analysis, 1988), with t quantiles of the clusters in place
of the normal ones, since n is small here: difference = (t_0.975 + t_0.8) * sd / sqrt(n).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from pinetune.evals.statistics import by_cluster

LEVEL, POWER = 0.05, 0.8
# Two models on the same rows mostly fail on the same ones. Measured pairs of base and tuned models lie between 0.3 and 0.7.
CORRELATION = 0.5


def detectable_share(n: int, rate: float = 0.5, correlation: float = CORRELATION) -> float:
    """Smallest change of a share (0/1 a row) that `n` rows show, before anything was measured; at most 1.

    `rate` is where the share stands (0.5 is the worst case), `correlation` that of the two models' results on a row. Rows that share
    their answer count as one: give the number of answers as `n` then.

    >>> round(detectable_share(200), 3), round(detectable_share(50), 3)
    (0.1, 0.202)
    """
    return min(1.0, _detectable(math.sqrt(2 * rate * (1 - rate) * (1 - correlation)), n))


def smallest_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """The smallest mean of b - a that these very rows had an 80% chance to show, from how the differences scatter over clusters.

    0 where no row differs: then nothing is known of the scatter. Raises ValueError as `mean_interval`.
    """
    found = by_cluster([y - x for x, y in zip(a, b, strict=True)], clusters)
    count = len(found.sums)
    if count < 2:
        return math.inf
    residuals = found.sums - found.mean * found.sizes
    variance = float((residuals**2).sum()) * count / (count - 1) / float(found.sizes.sum()) ** 2  # of the mean; cluster-robust
    return _quantiles(count) * math.sqrt(variance)


def rows_needed(difference: float, rate: float = 0.5, correlation: float = CORRELATION) -> int:
    """Rows (each with an answer of its own) that show a change of a share by `difference`.

    >>> rows_needed(0.1), rows_needed(0.05)
    (199, 787)
    """
    if not 0 < difference <= 1:
        raise ValueError(f"a difference of shares lies above 0 and up to 1, not {difference}")
    low, high = 2, 2
    while detectable_share(high, rate, correlation) > difference:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if detectable_share(middle, rate, correlation) > difference else (low, middle)
    return high


def _detectable(spread: float, n: int) -> float:
    return _quantiles(n) * spread / math.sqrt(n) if n > 1 else math.inf


def _quantiles(n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - LEVEL / 2) + stdtrit(n - 1, POWER))

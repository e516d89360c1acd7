"""Do 95% intervals hold what they say? Simulated held-out sets with a known truth, and how often the interval contains it.

    python benchmarks/coverage.py [--trials 1500] [--json table.json] [--differences]

Rewards: right or wrong (0/1) at three rates, and ranked lists (0.7^(rank - 1), 0 where absent, as the demo's grader pays). Rows
stand alone, or share their answer with one or two others and succeed together (the skill of an answer is drawn from a beta
distribution, correlation 0.2 within it). 0/1 rows that stand alone are counted out exactly, the others simulated. Each setting prints
how often the interval missed the truth on either side, and how wide it was.

--differences: of two models on the same rows instead, half of whose rows they find equally easy; and how often the paired test says
p <= 0.05 (where nothing differs, that is how often it is wrong).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pinetune.evals import statistics
from pinetune.evals.statistics import mean_interval, paired_difference

RATES = (0.1, 0.3, 0.5)
SIZES = (50, 100, 200)
CORRELATION = 0.2
LARGEST_CLUSTER = 3
HIT, PLACE, DECAY = 0.6, 0.5, 0.7  # a ranked list holds the answer, each place is taken with this chance, each lower place pays this much
PAIRS = ((0.3, 0.3), (0.3, 0.5), (0.1, 0.3))  # rates of the two models
SAME_EASE = 0.5  # share of the rows that both find equally easy
SAME_ANSWER = 0.4  # share of the rows that are as easy as their answer
RESAMPLES = 2_000  # a fifth of what the product draws: the same coverage in a fifth of the time


@dataclass(frozen=True, slots=True)
class Coverage:
    """`below` and `above`: shares of intervals that lie wholly below or above the truth; `trials` 0 = exact."""

    reward: str
    n: int
    clustered: bool
    trials: int
    covered: float
    below: float
    above: float
    width: float
    significant: float = 0.0  # of differences: share with p <= 0.05


def simulate(reward: str, rate: float, n: int, clustered: bool, trials: int, seed: int) -> Coverage:
    """`reward` "0/1" with mean `rate`, or "ranked" with hits at `rate`."""
    rng = np.random.default_rng(seed)
    truth = rate if reward == "0/1" else rate * _paid_place()
    low_misses = high_misses = 0
    width = 0.0
    for _ in range(trials):
        names = _names(n, clustered, rng)
        chances = _chances(rate, names, clustered, rng)
        values = (rng.random(n) < chances).astype(float)
        if reward == "ranked":
            values *= DECAY ** (rng.geometric(PLACE, n) - 1)
        interval = mean_interval(values.tolist(), names.tolist())
        low_misses += interval.high < truth
        high_misses += interval.low > truth
        width += interval.high - interval.low
    covered = 1 - (low_misses + high_misses) / trials
    shown = f"{reward} at {rate:g}" if reward == "0/1" else "ranked"
    return Coverage(shown, n, clustered, trials, covered, low_misses / trials, high_misses / trials, width / trials)


def simulate_difference(reward: str, rates: tuple[float, float], n: int, clustered: bool, trials: int, seed: int) -> Coverage:
    rng = np.random.default_rng(seed)
    truth = (rates[1] - rates[0]) * (1.0 if reward == "0/1" else _paid_place())
    low_misses = high_misses = significant = 0
    width = 0.0
    for _ in range(trials):
        names = _names(n, clustered, rng)
        ease = rng.random(n)
        if clustered:
            ease = np.where(rng.random(n) < SAME_ANSWER, rng.random(int(names.max()) + 1)[names], ease)
        eases = (ease, np.where(rng.random(n) < SAME_EASE, ease, rng.random(n)))
        first, second = ((of_model < rate).astype(float) for of_model, rate in zip(eases, rates, strict=True))
        if reward == "ranked":
            first, second = (values * DECAY ** (rng.geometric(PLACE, n) - 1) for values in (first, second))
        paired = paired_difference(first.tolist(), second.tolist(), names.tolist())
        low_misses += paired.difference.high < truth
        high_misses += paired.difference.low > truth
        significant += paired.p_value <= 0.05
        width += paired.difference.high - paired.difference.low
    covered = 1 - (low_misses + high_misses) / trials
    shown = f"{reward}, {rates[0]:g} and {rates[1]:g}"
    return Coverage(shown, n, clustered, trials, covered, low_misses / trials, high_misses / trials, width / trials, significant / trials)


def exact(rate: float, n: int) -> Coverage:
    """0/1 rows that stand alone: every possible number of right ones, weighted by its chance."""
    low_misses = high_misses = width = 0.0
    for right in range(n + 1):
        chance = math.comb(n, right) * rate**right * (1 - rate) ** (n - right)
        interval = mean_interval([1.0] * right + [0.0] * (n - right))
        low_misses += chance * (interval.high < rate)
        high_misses += chance * (interval.low > rate)
        width += chance * (interval.high - interval.low)
    return Coverage(f"0/1 at {rate:g}", n, False, 0, 1 - low_misses - high_misses, low_misses, high_misses, width)


def _paid_place() -> float:
    """Mean of DECAY^(place - 1) over geometric places."""
    return PLACE / (1 - DECAY * (1 - PLACE))


def _names(n: int, clustered: bool, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    if not clustered:
        return np.arange(n)
    return np.repeat(np.arange(n), rng.integers(1, LARGEST_CLUSTER + 1, n))[:n]


def _chances(rate: float, names: npt.NDArray[np.int64], clustered: bool, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if not clustered:
        return np.full(len(names), rate)
    spread = (1 - CORRELATION) / CORRELATION
    return rng.beta(rate * spread, (1 - rate) * spread, int(names.max()) + 1)[names]


def table(trials: int) -> Iterator[Coverage]:
    statistics.RESAMPLES = RESAMPLES
    for clustered in (False, True):
        for n in SIZES:
            for rate in RATES:
                seed = round(1000 * rate + n)
                yield simulate("0/1", rate, n, True, trials, seed) if clustered else exact(rate, n)
            yield simulate("ranked", HIT, n, clustered, trials, n + 13 * clustered)


def differences(trials: int) -> Iterator[Coverage]:
    statistics.RESAMPLES = statistics.FLIPS = RESAMPLES
    for clustered in (False, True):
        for n in (SIZES[0], SIZES[-1]):
            for seed, rates in enumerate(PAIRS):
                yield simulate_difference("0/1", rates, n, clustered, trials, 100 * n + seed)
            yield simulate_difference("ranked", PAIRS[1], n, clustered, trials, 100 * n + 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--json", help="also write the table there")
    parser.add_argument("--differences", action="store_true", help="paired differences of two models instead of one model's means")
    arguments = parser.parse_args()
    rows = []
    heads = [
        "rows",
        "n",
        "rewards",
        "covers",
        "truth above",
        "truth below",
        "mean width",
        *(["p <= 0.05"] if arguments.differences else []),
    ]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for row in differences(arguments.trials) if arguments.differences else table(arguments.trials):
        rows.append(asdict(row))
        where = "share answers" if row.clustered else "alone"
        significant = f" {row.significant:.1%} |" if arguments.differences else ""
        figures = f"{row.covered:.1%} | {row.below:.1%} | {row.above:.1%} | {row.width:.3f} |{significant}"
        print(f"| {where} | {row.n} | {row.reward} | {figures}", flush=True)
    error = 2 * math.sqrt(0.95 * 0.05 / arguments.trials)
    print(f"\n{arguments.trials} trials each: two standard errors are {error:.1%}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()

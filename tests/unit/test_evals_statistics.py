"""Intervals and paired tests: exact values where they can be computed by hand, coverage by simulation."""

from __future__ import annotations

import math

import pytest

from pinetune.evals.statistics import mean_interval, paired_difference, wilson

Z2 = 1.959963984540054**2


def test_wilson_agrees_with_its_formula_at_the_ends_and_a_published_value() -> None:
    assert wilson(0.0, 10) == (0.0, pytest.approx(Z2 / (10 + Z2)))
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + Z2)), 1.0)
    # Newcombe 1998 (Stat. Med. 17, 857), table I, 81 of 263, method 3: 0.2553 to 0.3662
    low, high = wilson(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_degenerate_values_still_have_width() -> None:
    assert mean_interval([0.0] * 200).high == pytest.approx(Z2 / (200 + Z2))
    assert mean_interval([1.0] * 200).low == pytest.approx(200 / (200 + Z2))
    one = mean_interval([1.0])
    assert (one.value, one.high, one.n) == (1.0, 1.0, 1) and one.low == pytest.approx(1 / (1 + Z2))
    same = mean_interval([0.7] * 50)
    assert same.low < 0.7 < same.high


def test_rows_of_one_cluster_count_once_when_all_agree() -> None:
    clustered = mean_interval([0.0] * 200, ["gene"] * 100 + ["other"] * 100)
    assert clustered.n == 200
    assert clustered.high == pytest.approx(Z2 / (2 + Z2))  # two independent facts, not two hundred


def test_unequal_clusters_count_by_kish() -> None:
    # sizes 3, 1: (3 + 1)^2 / (9 + 1) = 1.6 effective clusters
    assert mean_interval([0.0] * 4, ["a", "a", "a", "b"]).high == pytest.approx(Z2 / (1.6 + Z2))


def test_bootstrap_is_deterministic_and_close_to_the_normal_interval_in_the_middle() -> None:
    values = [float(i % 2) for i in range(400)]
    interval = mean_interval(values)
    assert interval == mean_interval(values)
    assert interval.value == 0.5
    half = 1.96 * math.sqrt(0.25 / 400)
    assert interval.low == pytest.approx(0.5 - half, abs=0.005) and interval.high == pytest.approx(0.5 + half, abs=0.005)


def test_clusters_that_agree_within_widen_the_interval() -> None:
    values = [float(i // 4 % 2) for i in range(400)]  # 100 clusters of 4 equal values
    alone, clustered = mean_interval(values), mean_interval(values, [i // 4 for i in range(400)])
    assert (clustered.high - clustered.low) / (alone.high - alone.low) == pytest.approx(2.0, abs=0.1)  # sqrt(4)


def test_values_outside_the_unit_interval_keep_their_scale() -> None:
    interval = mean_interval([10.0])
    assert (interval.value, interval.high) == (10.0, 10.0) and 0.0 < interval.low < 10.0
    assert mean_interval([-2.0, -1.0]).low >= -2.0


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_nothing_and_nan_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="a mean needs"):
        mean_interval(values)


def test_sign_flip_p_values_by_hand() -> None:
    # differences 1, 1, 1: of 8 patterns only +++ and --- reach |3|
    assert paired_difference([0, 0, 0], [1, 1, 1]).p_value == 2 / 8
    # differences 2, 1 (as clusters): |sum| is 3, 1, 1, 3 over the four patterns
    assert paired_difference([0, 0, 0], [1, 1, 1], ["a", "a", "b"]).p_value == 2 / 4
    # differences 3, -1: |sum| is 2, 4, 4, 2: all four are at least 2
    assert paired_difference([0, 0, 0, 1], [1, 1, 1, 0], ["a", "a", "a", "b"]).p_value == 1.0
    # one cluster can never be significant, whatever its rows say
    assert paired_difference([0] * 50, [1] * 50, ["a"] * 50).p_value == 1.0
    assert paired_difference([0.3, 0.4], [0.3, 0.4]).p_value == 1.0


def test_drawn_p_value_agrees_with_the_exact_sign_test() -> None:
    # 20 rows up, 8 down, 12 unchanged: the sign test is binomial(28, 1/2), two-sided
    a = [0.0] * 20 + [1.0] * 8 + [1.0] * 12
    b = [1.0] * 20 + [0.0] * 8 + [1.0] * 12
    exact = 2 * sum(math.comb(28, k) for k in range(20, 29)) / 2**28
    result = paired_difference(a, b)
    assert result.difference.value == pytest.approx(12 / 40)
    assert result.p_value == exact  # all differences of one size: counted, not drawn
    slightly = [value - 1e-6 * i if value else 0.0 for i, value in enumerate(b)]  # no longer of one size: drawn
    assert paired_difference(a, slightly).p_value == pytest.approx(exact, abs=0.004)


def test_a_strong_effect_reaches_the_smallest_drawn_p_value() -> None:
    assert paired_difference([0.0] * 60, [1.0 + i / 100 for i in range(60)]).p_value == pytest.approx(1 / 20_001)
    assert paired_difference([0.0] * 60, [1.0] * 60).p_value == 2 / 2**60


def test_paired_limits_without_any_difference_and_with_only_gains() -> None:
    none = paired_difference([1.0] * 100, [1.0] * 100).difference
    assert none.value == 0.0 and none.high == -none.low == pytest.approx(Z2 / (100 + Z2))
    gains = paired_difference([0.0] * 100, [1.0] * 100).difference
    assert gains.value == 1.0 and gains.high == 1.0
    assert gains.low == pytest.approx(100 / (100 + Z2) - Z2 / (100 + Z2))


def test_swapping_the_sides_mirrors_the_result() -> None:
    a = [float(i % 3 == 0) for i in range(90)]
    b = [float(i % 2 == 0) for i in range(90)]
    forth, back = paired_difference(a, b), paired_difference(b, a)
    assert back.difference.value == pytest.approx(-forth.difference.value)
    assert (back.difference.low, back.difference.high) == pytest.approx((-forth.difference.high, -forth.difference.low), abs=0.006)
    assert back.p_value == forth.p_value


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="2 values but 1 cluster names"):
        mean_interval([1.0, 0.0], ["a"])


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("correlation", [0.0, 0.2])
def test_95_percent_means_95_percent(rate: float, correlation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 binary rows in clusters of 1 to 3 (the shape of held-out cases with at most a few a gene)."""
    import numpy as np

    monkeypatch.setattr("pinetune.evals.statistics.RESAMPLES", 2000)  # a fifth of the time, the same coverage

    rng = np.random.default_rng(round(1000 * rate + 10 * correlation))
    covered, trials = 0, 1500
    for _ in range(trials):
        sizes = rng.integers(1, 4, 100)
        names = np.repeat(np.arange(100), sizes)[:200]
        spread = (1 - correlation) / correlation if correlation else 0.0
        chances = rng.beta(rate * spread, (1 - rate) * spread, 100) if correlation else np.full(100, rate)
        values = (rng.random(len(names)) < chances[names]).astype(float)
        interval = mean_interval(values.tolist(), names.tolist())
        covered += interval.low <= rate <= interval.high
    assert 0.93 <= covered / trials <= 0.97


@pytest.mark.slow
def test_no_effect_is_called_significant_one_time_in_twenty() -> None:
    import numpy as np

    rng = np.random.default_rng(5)
    found = excluded = 0
    trials = 600
    for _ in range(trials):
        names = np.repeat(np.arange(45), 5)
        chances = rng.beta(1.0, 2.0, 45)[names]
        a, b = (rng.random(225) < chances).astype(float), (rng.random(225) < chances).astype(float)
        result = paired_difference(a.tolist(), b.tolist(), names.tolist())
        found += result.p_value <= 0.05
        excluded += not result.difference.low <= 0 <= result.difference.high
    assert 0.03 <= found / trials <= 0.07
    assert 0.03 <= excluded / trials <= 0.07

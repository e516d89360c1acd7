"""Each advantage on rewards small enough to work out by hand."""

from __future__ import annotations

import pytest

from pinetune.training.advantages import ADVANTAGES

REWARDS_PG = [(1.0, 0.0, 0.5), (0.25, 0.75)]


def flat(advantages_PG: list[list[float]]) -> list[float]:
    return [value for group in advantages_PG for value in group]


def test_group_mean_only_takes_off_the_mean() -> None:
    assert ADVANTAGES["group_mean"](REWARDS_PG) == [[0.5, -0.5, 0.0], [-0.25, 0.25]]


def test_group_std_divides_by_each_groups_own_deviation() -> None:
    std = (0.5 / 3) ** 0.5  # population: (0.25 + 0.25 + 0) / 3
    assert flat(ADVANTAGES["group_std"](REWARDS_PG)) == pytest.approx([0.5 / std, -0.5 / std, 0, -1, 1], rel=1e-5)


def test_batch_std_divides_by_one_deviation_of_all() -> None:
    std = ((0.25 + 0.25 + 0.0625 + 0.0625) / 5) ** 0.5
    assert flat(ADVANTAGES["batch_std"](REWARDS_PG)) == pytest.approx([v / std for v in (0.5, -0.5, 0, -0.25, 0.25)], rel=1e-5)


def test_rloo_compares_with_the_others() -> None:
    assert ADVANTAGES["rloo"](REWARDS_PG) == [[0.75, -0.75, 0.0], [-0.5, 0.5]]


@pytest.mark.parametrize("name", ADVANTAGES)
def test_flat_single_and_empty_groups_give_zeros(name: str) -> None:
    assert ADVANTAGES[name]([(0.5, 0.5), (0.7,), ()]) == [[0.0, 0.0], [0.0], []]
    assert ADVANTAGES[name]([]) == []

"""Masks written out by hand, and how samples are cut into micro-batches."""

from __future__ import annotations

import pytest

from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row, TrainSample
from pinetune.training.advantages import group_mean
from pinetune.training.pack import batch_to_samples, by_group, num_packed_tokens, num_trained_tokens, pack, to_samples
from tests.training_samples import random_samples

EOS = 2


def rollout(index: int, tokens: tuple[int, ...], reward: float | None, finish: str = "stop", forced: tuple[int, ...] = ()) -> Rollout:
    completion = Completion(
        token_ids=tokens,
        logprobs=tuple(-0.1 * (i + 1) for i in range(len(tokens))),
        forced=tuple(i in forced for i in range(len(tokens))),
        finish=finish,  # type: ignore[arg-type]
        answer="",
    )
    grade = Grade("error", error_kind="timeout") if reward is None else Grade("ok", reward)
    return Rollout(row_index=7, sample_index=index, seed=index, completion=completion, grade=grade)


def group_of(*rollouts: Rollout) -> Group:
    return Group(Row(7, ({"role": "user", "content": "?"},), {}), Prompt((5, 6)), rollouts)


def test_masks_by_hand() -> None:
    group = group_of(
        rollout(0, (10, 11, EOS), 1.0),
        rollout(1, (10, 12, 13, EOS), 0.5, forced=(1, 2)),  # a closing tag the engine wrote
        rollout(2, (10, EOS), None),  # could not be graded
        rollout(3, (10, 11, 12), 0.0, finish="length"),  # truncated
    )
    samples = to_samples(group, [0.5, 0.0, -0.5])
    assert [s.completion_ids for s in samples] == [(10, 11, EOS), (10, 12, 13, EOS), (10, 11, 12)]
    assert [s.mask for s in samples] == [(True, True, True), (True, False, False, True), (False, False, False)]
    assert [s.advantages for s in samples] == [(0.5,) * 3, (0.0,) * 4, (-0.5,) * 3]
    assert samples[0] == TrainSample(7, (5, 6), (10, 11, EOS), (-0.1, -0.2, pytest.approx(-0.3)), (0.5, 0.5, 0.5), (True, True, True))
    assert num_trained_tokens(samples) == 5


def test_advantages_must_be_as_many_as_graded_rollouts() -> None:
    with pytest.raises(ValueError):
        to_samples(group_of(rollout(0, (10, EOS), 1.0), rollout(1, (10, EOS), None)), [0.5, -0.5])


def test_advantages_of_a_batch_skip_ungraded_rollouts() -> None:
    groups = [
        group_of(rollout(0, (10, EOS), None), rollout(1, (11, EOS), 1.0), rollout(2, (12, EOS), 0.0)),
        group_of(rollout(0, (13, EOS), 0.25)),
    ]
    samples = batch_to_samples(groups, group_mean)
    assert [(s.completion_ids[0], s.advantages[0]) for s in samples] == [(11, 0.5), (12, -0.5), (13, 0.0)]


def test_samples_with_nothing_to_train_are_not_computed() -> None:
    dropped = TrainSample(0, (1,), (3, 4), (-1.0, float("nan")), (1.0, 1.0), (False, True))
    kept = TrainSample(0, (1,), (3, 4), (-1.0, -1.0), (1.0, 1.0), (False, True))
    assert by_group([dropped, kept]) == [(kept,)]
    assert pack([dropped], 100) == []


def test_groups_stay_whole_where_they_fit() -> None:
    samples = random_samples(num_groups=3, lengths=(4, 4))  # packed: 5 + 6 = 11, 12 + 8 = 20, 19 + 10 = 29 tokens
    batches = pack(samples, 31)
    assert [[(g[0].group, len(g)) for g in batch] for batch in batches] == [[(2, 2)], [(1, 2), (0, 2)]]
    assert all(sum(map(num_packed_tokens, batch)) <= 31 for batch in batches)


def test_a_group_above_the_budget_is_split_and_a_large_sample_goes_alone() -> None:
    samples = random_samples(num_groups=1, lengths=(4, 4, 4, 30))  # prompt 5, three tokens each, then 29
    batches = pack(samples, 11)
    sizes = sorted([len(s.completion_ids) for s in group] for batch in batches for group in batch)
    assert sizes == [[4], [4, 4], [30]]
    assert [s for batch in batches for group in batch for s in group if len(s.completion_ids) == 30] == [samples[3]]

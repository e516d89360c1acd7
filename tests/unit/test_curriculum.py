from __future__ import annotations

import json

from pinetune.loop.curriculum import Curriculum
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row

ROWS = [Row(index=i, messages=(), item={}) for i in range(5)]


def group(index: int, reward: float) -> Group:
    rollout = Rollout(index, 0, 0, Completion((1,), (0.0,), (False,), "stop", ""), Grade("ok", reward))
    return Group(ROWS[index], Prompt(()), (rollout,))


def indexes(rows: list[Row]) -> list[int]:
    return [row.index for row in rows]


def test_each_epoch_deals_every_row_once() -> None:
    deck = Curriculum(ROWS, seed=1, retire_at=0.9)
    dealt = indexes(deck.draw(2) + deck.draw(2) + deck.draw(2) + deck.draw(2) + deck.draw(2))
    assert sorted(dealt[:5]) == sorted(dealt[5:]) == [0, 1, 2, 3, 4]
    assert deck.epoch == 2


def test_a_draw_across_two_epochs_holds_no_row_twice() -> None:
    for seed in range(30):
        deck = Curriculum(ROWS, seed=seed, retire_at=0.9)
        for _ in range(10):
            drawn = indexes(deck.draw(4))
            assert len(set(drawn)) == 4


def test_solved_rows_retire_after_two_visits() -> None:
    deck = Curriculum(ROWS, seed=1, retire_at=0.9)
    deck.learn([group(3, 0.95)])
    assert deck.retired() == set()
    deck.learn([group(3, 0.9), group(2, 0.89)])
    assert deck.retired() == {3}
    assert 3 not in indexes([row for _ in range(5) for row in deck.draw(4)])


def test_a_batch_is_filled_up_with_retired_rows_rather_than_shrunk() -> None:
    deck = Curriculum(ROWS, seed=1, retire_at=0.9)
    for index in (1, 2, 3):
        deck.learn([group(index, 1.0), group(index, 1.0)])
    drawn = indexes(deck.draw(4))
    assert sorted(drawn[:2]) == [0, 4]
    assert len(set(drawn)) == 4
    assert not deck.all_retired()


def test_state_goes_through_json_and_continues_the_same_deal() -> None:
    deck = Curriculum(ROWS, seed=7, retire_at=0.9)
    deck.draw(3)
    deck.learn([group(0, 1.0), group(0, 1.0)])
    state = json.loads(json.dumps(deck.state()))
    expected = [indexes(deck.draw(3)) for _ in range(4)]
    other = Curriculum(ROWS, seed=7, retire_at=0.9)
    other.restore(state)
    assert [indexes(other.draw(3)) for _ in range(4)] == expected

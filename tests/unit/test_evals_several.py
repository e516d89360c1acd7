"""A single sample, the vote, the reranker's pick and the best of n on groups small enough to count by hand."""

from __future__ import annotations

import json

import pytest

from pinetune.evals.answer_rules import open_rule
from pinetune.evals.evaluate import build_report
from pinetune.evals.several import BEST, GREEDY, RERANKED, SINGLE, VOTE, WEIGHTED, judge_several, pick
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row


class Exact:
    """1.0 where the reference leads the list; counts its calls."""

    name = "exact"

    def __init__(self) -> None:
        self.calls = 0

    def grade(self, completion: Completion, row: Row) -> Grade:
        self.calls += 1
        genes = json.loads(completion.answer)["genes"]
        return Grade("ok", float(genes[0] == row.item["reference_answer"]))

    def close(self) -> None: ...


def answer(*names: str) -> str:
    return json.dumps({"genes": list(names)})


def group(index: int, gene: str, *answers: str | None) -> Group:
    """None = a sample that could not be graded."""
    row = Row(index, ({"role": "user", "content": f"case {index}"},), {"reference_answer": gene})
    rollouts = []
    for s, text in enumerate(answers):
        completion = Completion((1, 2), (-0.1, -0.1), (False, False), "stop", text or answer(gene))
        grade = Grade("error", explanation="boom") if text is None else Grade("ok", float(json.loads(text)["genes"][0] == gene))
        rollouts.append(Rollout(index, s, s, completion, grade))
    return Group(row, Prompt((1,)), tuple(rollouts))


GROUPS = [
    group(0, "A", answer("A", "B"), answer("B", "A"), answer("A", "C")),  # vote right
    group(1, "B", answer("C", "B"), answer("C", "B"), answer("B", "D")),  # vote wrong, one sample right
    group(2, "C", answer("D", "E"), answer("E", "D"), answer("D", "E")),  # none right
]


def test_each_way_has_its_own_reward_and_the_vote_asks_no_grader() -> None:
    grader = Exact()
    report = judge_several(GROUPS, grader, [open_rule("first")], scorer=lambda g: [0.0, 0.0, 1.0])
    assert grader.calls == 0
    rewards = {way.name: way.reward.value for way in report.ways}
    # Weighted by 0, 0, 1 only the last samples vote: A, B and D.
    assert rewards == pytest.approx({SINGLE: 1 / 3, VOTE: 1 / 3, f"{WEIGHTED} {VOTE}": 2 / 3, RERANKED: 2 / 3, BEST: 2 / 3})
    assert [one.shown for one in report.votes] == ["A", "C", "D"]
    assert (report.num_samples, report.num_read, [way.reward.n for way in report.ways]) == (3, 9, [3] * 5)
    assert report.way(VOTE).metrics["topmax"].value == pytest.approx(2 / 3)
    assert report.against[BEST].reward.difference.value == pytest.approx(1 / 3)
    assert [(one.share, one.reward.n) for one in report.agreement] == [(0.25, 3), (0.5, 3)]


def test_a_greedy_answer_is_the_baseline_where_it_is_given() -> None:
    greedy = build_report(0, GREEDY, [group(0, "A", answer("B")), group(1, "B", answer("C")), group(2, "C", answer("D"))], None, 0.0)
    report = judge_several(GROUPS, Exact(), [open_rule("first")], greedy=greedy)
    assert [way.name for way in report.ways] == [GREEDY, SINGLE, VOTE, BEST]
    assert report.against[VOTE].reward.difference.value == pytest.approx(1 / 3)
    assert report.against[VOTE].reward.p_value == 1.0  # one row of three differs: either sign is as extreme


def test_only_merged_lists_are_graded_anew() -> None:
    grader = Exact()
    # Borda: A 2+1+2 = 5 leads B; row 1: C 4, B 2+1+1 = 4, C was seen first; row 2: D 5, E 4.
    report = judge_several(GROUPS, grader, [open_rule("borda")])
    assert [one.shown for one in report.votes] == ["A", "C", "D"]
    # Rows 1 and 2 give the list [C, B] and [D, E], which their first samples have word for word.
    assert grader.calls == 0
    merged = judge_several([group(0, "A", answer("A", "B"), answer("A", "C"), answer("C", "A"))], grader, [open_rule("borda")])
    # A 2+2+1, C 1+2, B 1: the list is [A, C], which the second sample has, but its explanation is the first one's.
    assert json.loads(merged.votes[0].answer) == {"genes": ["A", "C"]}
    assert (grader.calls, merged.way(VOTE).reward.value) == (1, 1.0)


def test_what_could_not_be_graded_is_counted_and_never_zero() -> None:
    groups = [group(0, "A", None, answer("A"), answer("B")), group(1, "B", answer("B"), answer("B"), answer("C"))]
    report = judge_several(groups, Exact(), [open_rule("first")])
    # The winner of row 0 is A, first said by the sample without a grade: that row is left out of the vote.
    assert (report.way(VOTE).num_ungraded, report.way(VOTE).reward.n, report.way(VOTE).reward.value) == (1, 1, 1.0)
    assert report.way(SINGLE).reward.value == pytest.approx((0.5 + 2 / 3) / 2)
    assert report.way(BEST).reward.value == 1.0


def test_the_reranker_takes_the_highest_score_and_the_first_of_equals() -> None:
    assert pick(GROUPS[0], [0.2, 0.7, 0.7]).sample_index == 1
    assert pick(GROUPS[0], [0.5, 0.5, 0.5]).sample_index == 0


def test_several_rules_vote_over_the_same_samples() -> None:
    report = judge_several(GROUPS, Exact(), [open_rule("first"), open_rule("borda")])
    assert [way.name for way in report.ways] == [SINGLE, "vote first", "vote borda", BEST]
    assert report.rules == ("first", "borda") and [one.merged for one in report.votes] == [False] * 3

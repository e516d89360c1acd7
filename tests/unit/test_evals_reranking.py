"""What a reranker learns from: rollouts of a run found again by their messages, thinned, split by answer, never held-out rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinetune.errors import DataError, UserError
from pinetune.evals.reranking import (
    JudgedAnswer,
    fingerprints,
    judged_of_groups,
    judged_of_run,
    names_in,
    refuse_trained_rows,
    require_both_kinds,
    said_by,
    split_rows,
    telling,
    thinned,
)
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.runs.folder import RunFolder
from pinetune.runs.rollout_table import write_rollouts


def row(index: int, answer: str = "A") -> Row:
    messages = ({"role": "user", "content": f"case {index}"},)
    return Row(index, messages, {"messages": list(messages), "reference_answer": answer}, line=index + 1)


def group(of: Row, *answers: tuple[str, float | None]) -> Group:
    rollouts = tuple(
        Rollout(
            of.index, s, s, Completion((1,), (0.0,), (False,), "stop", text, "hm", 1),
            Grade("error", explanation="boom") if value is None else Grade("ok", value),
        )
        for s, (text, value) in enumerate(answers)
    )  # fmt: skip
    return Group(of, Prompt((1, 2)), rollouts)


def judged(of: Row, answer: str, correct: bool) -> JudgedAnswer:
    return JudgedAnswer(of, "", answer, correct)


def test_a_reward_at_the_threshold_is_correct_and_what_has_no_grade_teaches_nothing() -> None:
    found = judged_of_groups([group(row(0), ("x", 0.5), ("y", 0.49), ("z", None))], 0.5)
    assert [(one.answer, one.correct, one.reasoning) for one in found] == [("x", True, "hm"), ("y", False, "hm")]


def test_rollouts_of_a_run_are_found_by_their_messages_newest_first(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.rollouts.mkdir()
    write_rollouts(run.rollouts / "step-00001.parquet", 1, [group(row(0), ("old", 1.0)), group(row(7), ("foreign", 1.0))])
    write_rollouts(run.rollouts / "step-00002.parquet", 2, [group(row(0), ("new", 0.0), ("no grade", None))])
    found = judged_of_run(run, [row(0), row(1)], 0.5)
    assert [(one.row.index, one.answer, one.correct) for one in found] == [(0, "new", False), (0, "old", True)]
    assert found[0].row.item["reference_answer"] == "A"
    with pytest.raises(DataError, match="give the file that the run was trained on"):
        judged_of_run(run, [row(3)], 0.5)


def test_thinning_keeps_each_answer_once_and_both_kinds() -> None:
    of = row(0)
    many = [judged(of, f"right {i}", True) for i in range(5)] + [judged(of, "wrong", False)] * 3 + [judged(of, "wrong 2", False)]
    assert [one.answer for one in thinned(many, per_row=4)] == ["right 0", "right 1", "wrong", "wrong 2"]


def test_what_answers_say_is_read_by_a_rule() -> None:
    lists = [judged(row(0), '{"genes": ["TSC2", "TSC1"]}', True), judged(row(1), '{"genes": ["tsc2"]}', False), judged(row(2), "?", False)]
    assert said_by(lists, "auto") == ["tsc2", "tsc2", ""]
    assert said_by(lists, "none") == [None, None, None]
    assert said_by([judged(row(0), "The answer is 4", True)], "auto") == [None]
    assert said_by([judged(row(0), "The answer is 4.0", True)], "number") == ["4"]
    with pytest.raises(UserError, match="frist"):
        said_by(lists, "frist")


def test_rows_with_one_answer_stay_on_one_side() -> None:
    many = [judged(row(i, f"gene {i % 5}"), "x", True) for i in range(20)]
    ours, held = split_rows(many, share=0.2, seed=3)
    names = [{str(one.row.item["reference_answer"]) for one in side} for side in (ours, held)]
    assert (len(ours), len(held)) == (16, 4) and not names[0] & names[1]
    assert split_rows(many, seed=3) == split_rows(many, seed=3) != split_rows(many, seed=4)
    alone = [judged(row(0), "x", True)]
    assert split_rows(alone) == (alone, [])


def test_names_are_the_entries_that_occur_often() -> None:
    lists = [judged(row(i), json.dumps({"genes": ["TSC2", "A", f"slip {i}", "TSC1"][: 3 + i % 2]}), True) for i in range(6)]
    assert names_in(lists, least=3) == ["TSC1", "TSC2"]  # one letter is no name
    with pytest.raises(DataError, match="leave it out"):
        names_in(lists, least=7)


def test_only_rows_answered_both_ways_choose_the_step() -> None:
    mixed = [judged(row(0), "a", True), judged(row(0), "b", False), judged(row(0), "c", True)]
    late = [judged(row(1), "a", True), judged(row(1), "b", True), judged(row(1), "c", False)]
    assert telling([*mixed, *late, judged(row(2), "a", False)], per_row=2) == mixed[:2]


@pytest.mark.parametrize(("correct", "said"), [(True, "raise --threshold"), (False, "lower --threshold")])
def test_one_kind_only_says_what_to_change(correct: bool, said: str) -> None:
    with pytest.raises(DataError, match=said):
        require_both_kinds([judged(row(0), "x", correct)], 0.5)


def test_rows_it_was_trained_on_are_no_evidence() -> None:
    settings = json.loads(json.dumps({"rows": fingerprints([row(0), row(1)])}))
    refuse_trained_rows(settings, [row(2), row(3)], "test.jsonl")
    with pytest.raises(DataError, match=r"test.jsonl: the reranker was trained on 1 of these 2 rows \(lines 2\)"):
        refuse_trained_rows(settings, [row(1), row(3)], "test.jsonl")

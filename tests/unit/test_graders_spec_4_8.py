"""Ranges, thresholds and errors: what touches a reward, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from grading import CHECK, SayingJudge, grade

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader, parse_definition
from pinetune.graders.options import Services
from pinetune.graders.verdict import pass_threshold, passed
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row

PYTHON = {"type": "python", "source": "def grade(sample, item): return item['value']"}
SIMILARITY = {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "bleu"}
JUDGE = {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "x"}]}
LABELS = {**JUDGE, "type": "label_model", "labels": ["a", "b"], "passing_labels": ["a"]}
ENDPOINT = {"type": "endpoint", "url": "http://127.0.0.1:9"}
MULTI = {"type": "multi", "graders": {"p": PYTHON}, "calculate_output": "10 * p - 20"}


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.5, 4.5, 1e6])
def test_rewards_are_not_clamped(value: float) -> None:
    assert grade(PYTHON, item={"value": value}).value == value
    assert grade(MULTI, item={"value": value}).value == 10 * value - 20


@pytest.mark.parametrize(("bounds", "given", "value"), [([0, 5], 6, 5.0), ([0, 5], -6, 0.0), ([-1, 1], -0.5, -0.5), ([0, 100], 55, 55.0)])
def test_only_the_range_of_a_judge_clips(bounds: list[float], given: float, value: float) -> None:
    assert grade({**JUDGE, "range": bounds}, services=Services(ask=SayingJudge(given))).value == value


@pytest.mark.parametrize("bounds", [[1, 0], [0, 0], [0], [0, 1, 2], [0, "x"], [float("nan"), 1], [0, float("inf")]])
def test_ranges_that_are_none(bounds: list[Any]) -> None:
    with pytest.raises(GraderError, match=r"^grader\.range"):
        build_grader({**JUDGE, "range": bounds})


@pytest.mark.parametrize("definition", [CHECK, SIMILARITY, JUDGE, LABELS, PYTHON, MULTI, ENDPOINT])
def test_a_pass_threshold_is_taken_everywhere_and_moves_no_reward(definition: dict[str, Any]) -> None:
    built = build_grader({**definition, "pass_threshold": 0.75}, trusted=True)
    built.close()
    multi = {"type": "multi", "graders": {"a": {**definition, "pass_threshold": 0.75}}, "calculate_output": "1", "pass_threshold": 1}
    if definition["type"] != "multi":
        build_grader(multi, trusted=True).close()
    assert pass_threshold(parse_definition({**definition, "pass_threshold": 0.75})) == 0.75
    with pytest.raises(GraderError, match=r"^grader\.pass_threshold: should be a finite number"):
        build_grader({**definition, "pass_threshold": float("nan")}, trusted=True)


def test_a_pass_threshold_moves_no_reward() -> None:
    for threshold in (0.0, 0.9):
        assert grade({**PYTHON, "pass_threshold": threshold}, item={"value": 0.5}).value == 0.5


@pytest.mark.parametrize(
    ("definition", "threshold"),
    [
        (CHECK, 1.0),
        (LABELS, 1.0),
        (JUDGE, 0.5),
        ({**JUDGE, "range": [1, 5]}, 3.0),
        (SIMILARITY, 0.5),
        (PYTHON, 0.5),
        (MULTI, 0.5),
        (ENDPOINT, 0.5),
    ],
)
def test_thresholds_where_none_is_given(definition: dict[str, Any], threshold: float) -> None:
    assert pass_threshold(parse_definition(definition)) == threshold


@pytest.mark.parametrize(
    ("verdict", "threshold", "expected"),
    [
        (Grade("ok", 0.5), 0.5, True),
        (Grade("ok", 0.49), 0.5, False),
        (Grade("ok", -1.0), -2.0, True),
        (Grade("error", error_kind="other_error"), 0.0, None),  # not graded is neither
    ],
)
def test_passed(verdict: Grade, threshold: float, expected: bool | None) -> None:
    assert passed(verdict, threshold) is expected


def test_an_ungraded_rollout_leaves_its_group_and_is_no_zero() -> None:
    """The hosted product scores it 0; here it is left out and counted, so that a broken grader trains nothing."""
    completion = Completion((1,), (-0.1,), (False,), "stop", "x")
    grades = [grade(PYTHON, item={"value": 0.5}), grade(PYTHON, item={})]
    rollouts = tuple(Rollout(0, s, 0, completion, verdict) for s, verdict in enumerate(grades))
    group = Group(Row(0, (), {}), Prompt((1,)), rollouts)
    assert group.rewards() == (0.5,)
    assert [rollout.grade.status for rollout in group.rollouts] == ["ok", "error"]

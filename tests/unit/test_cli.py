"""The command line's own parts: what it prints and how it ends."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pinetune.cli.console import duration, say_error
from pinetune.cli.progress import ProgressRecorder
from pinetune.cli.run import show_summary
from pinetune.records import EvalReport, Interval, StepReport, UpdateReport


class Silent:
    def event(self, *args: Any) -> None: ...
    def step(self, *args: Any) -> None: ...
    def evaluation(self, *args: Any) -> None: ...
    def stop_requested(self) -> bool:
        return False


def step(number: int, seconds: float) -> StepReport:
    update = UpdateReport(trained_tokens=10, loss=0.0, grad_norm=1.0, learning_rate=1e-4)
    return StepReport(number, 10, 0.25, 0.1, 8, 0, 2, 0, 0, 20.0, 5.0, 0.0, update, {"full_iteration": seconds}, 1234.5)


def report(reward: float, seconds: float) -> EvalReport:
    return EvalReport(4, "step 4", Interval(reward, 0.2, 0.4, 60), {"top1": Interval(0.5, 0.4, 0.6, 60)}, 3, 30.0, 20.0, 0.0, seconds)


def test_progress_says_step_reward_held_out_speed_and_time_left() -> None:
    out = StringIO()
    recorder = ProgressRecorder(Silent(), Console(file=out, width=200))
    recorder.evaluation(report(0.31, 5.0))
    recorder.step(step(4, 2.0), [])
    said = out.getvalue()
    assert "held-out, step 4: reward 0.31 [0.20-0.40], top1 0.50 [0.40-0.60]; n=60, thinking 20 tokens; 3 answers could not be" in said
    assert "step 4/10  reward 0.25  held-out 0.31  1234 tok/s  12 s left" in said


def test_time_left_counts_the_evaluations_to_come() -> None:
    out = StringIO()
    recorder = ProgressRecorder(Silent(), Console(file=out, width=200))
    recorder.evaluation(report(0.1, 5.0))  # of the base: happens once
    recorder.evaluation(report(0.2, 4.0))  # one in four steps so far: 6 s of the remaining six
    recorder.step(step(4, 2.0), [])
    assert "18 s left" in out.getvalue()


def test_summary_shows_each_number_with_its_interval() -> None:
    out = StringIO()
    top1 = {"value": 0.5, "ci95": [0.4, 0.6]}
    reward = {"value": 0.25, "ci95": [0.2, 0.3]}
    show_summary(
        {"n": 240, "base": {"top1": top1, "reward": reward}, "ranker": None, "tuned": {"top1": top1, "reward": reward}},
        Console(file=out, width=120),
    )
    said = out.getvalue()
    assert "n=240" in said
    assert said.count("50% [40%-60%]") == 2
    assert "0.25 [0.20-0.30]" in said
    assert "ranker" not in said


def test_errors_are_one_line_and_further_faults_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("a.jsonl:3: messages: is missing\na.jsonl:4: messages: is empty")
    assert capsys.readouterr().err == "error: a.jsonl:3: messages: is missing\n  a.jsonl:4: messages: is empty\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7300, "2 h 1 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""Learnability, cost and the whole check: verdicts on made-up groups, then real tiny jobs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny
from typer.testing import CliRunner

from pinetune.bench.report import Cost
from pinetune.cli.main import app
from pinetune.errors import JobError
from pinetune.evals.statistics import wilson
from pinetune.preflight.cost import Load, check_cost
from pinetune.preflight.learnable import Guess, check_learnable, pass_at
from pinetune.preflight.options import PreflightOptions
from pinetune.preflight.run import preflight
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row


def groups(*rewards: tuple[float | None, ...], finish: str = "stop") -> list[Group]:
    """One group a tuple; None = could not be graded."""
    made = []
    for i, of_row in enumerate(rewards):
        completion = Completion((1, 2), (-0.5, -0.5), (False, False), finish, "x")  # type: ignore[arg-type]
        grades = [Grade("error", explanation="boom\nno disk") if value is None else Grade("ok", value) for value in of_row]
        rollouts = tuple(Rollout(i, s, s, completion, grade) for s, grade in enumerate(grades))
        made.append(Group(Row(i, ({"role": "user", "content": "q"},), {}), Prompt((1,)), rollouts))
    return made


def kinds(made: list[Group], guess: Guess | None = None) -> dict[str, str]:
    return {f.kind: f.verdict for f in check_learnable(made, guess).findings}


@pytest.mark.parametrize(
    ("rewards", "guess", "expected"),
    [
        ([(1.0, 1.0), (0.9, 1.0)], None, {"already_solved": "stop"}),
        ([(1.0, 0.0), (0.0, 0.0), (0.0, 0.0)], None, {"learnable": "ok"}),
        ([(0.0, 0.0)] * 25, None, {"no_signal": "stop"}),
        ([(0.5, 0.5)] * 25, None, {"no_spread": "stop"}),
        ([(1.0, 0.0)] + [(0.0, 0.0)] * 9, None, {"little_signal": "look"}),
        ([(1.0, 0.0), (0.0, 0.0)], Guess("yes", 0.5, 40), {"guessing_pays": "look"}),
        ([(1.0, 0.0), (1.0, 0.0)], Guess("yes", 0.45, 40), {"learnable": "ok"}),  # the base beats guessing
        ([(1.0, 0.0), (1.0, 0.0)], Guess("yes", 0.1, 40), {"learnable": "ok", "guessing": "ok"}),
        ([(None, None), (None, None)], None, {"ungraded": "stop"}),
        ([(1.0, 0.0, None), (1.0, 0.0, 0.0)], None, {"learnable": "ok", "ungraded": "look"}),
    ],
)
def test_the_verdict_on_the_rewards(rewards: Any, guess: Guess | None, expected: dict[str, str]) -> None:
    assert kinds(groups(*rewards), guess) == expected


def test_answers_cut_off_are_said() -> None:
    assert kinds(groups((1.0, 0.0), finish="length")) == {"learnable": "ok", "truncated": "look"}


def test_figures_by_hand() -> None:
    part = check_learnable(groups((1.0, 0.0, 0.0, 0.0), (0.55, 0.55, 0.2, 0.0)), None)
    figures = part.figures
    assert figures["reward_mean"] == pytest.approx((0.25 + 0.325) / 2)
    assert (figures["pass@1"], figures["pass@4"]) == (pytest.approx((0.25 + 0.5) / 2), 1.0)
    assert figures["pass@2"] == pytest.approx((0.5 + (1 - 1 / 6)) / 2)
    assert figures["histogram"] == [4, 0, 1, 0, 0, 2, 0, 0, 0, 1]
    assert (figures["groups_with_spread"], figures["rewarded_share"]) == (1.0, 0.5)
    assert pass_at(3, 4, 0) == 0.0 and pass_at(4, 4, 1) == 1.0


def test_rows_that_share_their_answer_count_together() -> None:
    made = [
        replace(group, row=replace(group.row, item={"answer": f"g{i // 2}"}))
        for i, group in enumerate(groups(*[(1.0,), (1.0,), (0.0,), (0.0,)] * 6))
    ]
    alone, shared = (check_learnable(made, None, field).figures["reward_ci95"] for field in (None, "answer"))
    assert alone == list(wilson(0.5, 24))
    assert shared[0] < alone[0] - 0.05 and shared[1] > alone[1] + 0.05  # both rows of an answer succeed or fail: twelve facts, not 24


LOAD = Load(
    steps=10, rollouts_a_step=64, evals=3, rollouts_an_eval=20, rollouts_final=100, parameters=1_000_000, trained_parameters=1_000_000,
    activation_bytes=2**20, seconds_a_rollout=0.1, forward_seconds=0.02, tokens_a_rollout=50.0, budget_minutes=math.inf,
    memory_bytes=2**30, device="cpu",
)  # fmt: skip


def changed(**changes: Any) -> Load:
    return replace(LOAD, **changes)


def test_costs_by_hand(tmp_path: Path) -> None:
    part = check_cost(LOAD, Cost(0.5, 1.0, 200_000.0, 50_000.0, 2.0), tmp_path)
    figures = part.figures
    assert figures["seconds_a_step"] == pytest.approx(64 * (0.1 + 3 * 0.02))
    assert figures["seconds"] == pytest.approx(10 * 64 * 0.16 + 0.1 * (3 * 20 + 4 * 100))
    assert figures["grades"] == 640 + 60 + 400
    assert figures["memory_bytes"] == 16_000_000 + 2**20
    assert figures["disk_bytes"] == 4 * 12_000_000 + 4_000_000 + 1100 * 50 * 12
    assert (figures["judge_tokens"], figures["judge_dollars"]) == (275_000.0, pytest.approx(2.2))
    assert part.verdict == "ok" and "1,100 grades, 275,000 tokens, 2.20 US dollars" in part.findings[-1].text


@pytest.mark.parametrize(
    ("changes", "kind", "verdict"),
    [
        ({"budget_minutes": 1.0}, "time", "look"),
        ({"memory_bytes": 10_000_000}, "memory", "stop"),
        ({"memory_bytes": 20_000_000}, "memory", "look"),
        ({"trained_parameters": 10**14}, "disk", "stop"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, changes: dict[str, Any], kind: str, verdict: str) -> None:
    found = check_cost(changed(**changes), None, tmp_path).finding(kind)
    assert found is not None and found.verdict == verdict


def test_a_judge_without_a_price_is_to_be_looked_at(tmp_path: Path) -> None:
    found = check_cost(LOAD, Cost(0.5, 1.0, 200_000.0, 50_000.0), tmp_path).finding("judges")
    assert found is not None and (found.verdict, "judge_prices" in found.text) == ("look", True)


SHORT = "def grade(sample, item):\n    return max(0.0, 1 - len(sample['output_text']) / 40)\n"
EXACT: dict[str, Any] = {
    "type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}", "operation": "eq",
}  # fmt: skip


def job(folder: Path, grader: dict[str, Any] = EXACT, **own: Any) -> dict[str, Any]:
    def write(name: str, words: list[str]) -> str:
        rows = [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word} for word in words]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return {
        "model": "tiny", "training_file": write("train.jsonl", [f"apple{i}" for i in range(8)]),
        "validation_file": write("valid.jsonl", [f"pear{i}" for i in range(6)]), "seed": 3,
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
        "pinetune": {"steps": 5, "group_size": 4, "max_tokens": 16, "threads": 1, "unsafe_python_graders": True, **own},
    }  # fmt: skip


def test_without_a_model_data_and_grader_are_checked(tmp_path: Path) -> None:
    report = preflight(job(tmp_path), tmp_path, PreflightOptions(model=False))
    assert [part.name for part in report.parts] == ["data", "grader"]
    assert report.part("data").figures["answer_field"] == "answer"
    assert report.part("grader").verdict != "stop"


def test_a_constant_grader_and_unreadable_data_stop(tmp_path: Path) -> None:
    everything = {**EXACT, "operation": "like", "reference": ""}  # the empty text stands in every answer
    report = preflight(job(tmp_path, everything), tmp_path, PreflightOptions(model=False))
    assert report.part("grader").verdict == "stop"
    (tmp_path / "train.jsonl").write_text('{"messages": []}\n{"prompt": "x"}\n')
    report = preflight(job(tmp_path) | {"training_file": "broken.jsonl"}, tmp_path)
    assert [(p.name, p.verdict) for p in report.parts] == [("data", "stop")] and "no such file" in report.parts[0].findings[0].text
    (tmp_path / "broken.jsonl").write_text('{"messages": []}\n{"prompt": "x"}\n')
    report = preflight(job(tmp_path) | {"training_file": "broken.jsonl"}, tmp_path)
    assert [f.text.split(": ")[0].rsplit(":", 1)[1] for f in report.parts[0].findings] == ["1", "2"]


def test_a_body_that_is_no_job_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="method"):
        preflight({"model": "tiny"}, tmp_path)


def test_a_missing_model_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    report = preflight(job(tmp_path) | {"model": "./nowhere"}, tmp_path)
    assert report.part("learnability").verdict == "stop" and report.part("data").verdict != "stop"


@pytest.mark.slow
def test_a_tiny_model_that_never_answers_right_has_no_signal(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    report = preflight(job(tmp_path), tmp_path, PreflightOptions(rows=4, samples=4))
    assert [part.name for part in report.parts] == ["data", "grader", "learnability", "cost"]
    learnable = report.part("learnability")
    assert learnable.finding("no_signal") is not None and learnable.figures["reward_mean"] == 0.0
    assert report.part("cost").figures["grades"] == 5 * 32 + 6 * 6 * 5 + 4 * 6 * 5
    long = preflight(job(tmp_path, max_prompt_tokens=5), tmp_path, PreflightOptions(rows=4, samples=4))
    found = long.part("data").finding("too_long")
    assert found is not None and len(found.lines) == 8


@pytest.mark.slow
def test_a_task_with_graded_steps_is_learnable_and_the_command_says_so(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    body = job(tmp_path, {"type": "python", "name": "short", "source": SHORT}, stop=["e", "a"])
    (tmp_path / "job.json").write_text(json.dumps(body))
    done = CliRunner().invoke(app, ["check", str(tmp_path / "job.json"), "--rows", "4", "--samples", "4", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and report["parts"][2]["figures"]["groups_with_spread"] > 0.5
    # Short answers are paid whatever they say: the best constant answer is no worse than the base, and the bench calls that a hole.
    assert report["verdict"] == "stop" and report["parts"][1]["verdict"] == "stop"
    strict = CliRunner().invoke(app, ["check", str(tmp_path / "job.json"), "--no-model", "--strict"])
    assert strict.exit_code == 1 and "verdict: stop" in strict.stdout

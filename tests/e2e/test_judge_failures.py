"""A whole job with a judge behind a real HTTP server that fails: it goes on, counts, never invents a 0, and pays once."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from judge_server import HANGS, Answer, JudgeServer, Sent, fails, says, verdict
from rich.console import Console
from tiny_models import save_tiny

from pinetune.cli.run import run_job
from pinetune.errors import GraderError, JobFailed

STEPS, BATCH, GROUP = 4, 2, 4
ERRORS = {"model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PINETUNE_JUDGE_API_KEY", "sk-not-to-be-seen")
    for name in ("PINETUNE_JUDGE_CACHE", "PINETUNE_MODEL_ALIASES", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def job(folder: Path, model: Path, *, held_out: bool = False, **own: Any) -> dict[str, Any]:
    """Rewards long answers, as a judge sees them: the answer stands in the question, its length decides."""
    for name, words in (("train", "abcdef"), ("valid", "gh")):
        rows = [{"messages": [{"role": "user", "content": f"Say something about {word}."}]} for word in words]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    grader = {
        "type": "score_model", "name": "judge", "model": "o3-2025-04-16",
        "input": [{"role": "developer", "content": "Rate."}, {"role": "user", "content": "ANSWER{{ sample.output_text }}"}],
    }  # fmt: skip
    return {
        "model": str(model),
        "training_file": "train.jsonl",
        **({"validation_file": "valid.jsonl"} if held_out else {}),
        "seed": 7,
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": grader, "hyperparameters": {"batch_size": BATCH, "eval_interval": 2, "eval_samples": 1}},
        },
        "pinetune": {
            "steps": STEPS, "group_size": GROUP, "max_tokens": 12, "stop": ["e", "a"], "learning_rate": 1e-3, "threads": 1,
            "max_refills": 0, "early_stopping": False, "judge_retries": 0, "judge_timeout": 5, **own,
        },
    }  # fmt: skip


def value_of(body: dict[str, Any]) -> float:
    answer = body["messages"][-1]["content"].split("ANSWER", 1)[1]
    return 0.1 + min(0.9, len(answer) / 40)  # never 0: a 0 in the records would be one that nobody gave


def good(number: int, body: dict[str, Any]) -> Sent:
    return says(verdict(value_of(body)))


def rollouts(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((out / "rollouts").glob("*.parquet"))])


def steps(out: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if line["step"]]


def events(out: Path) -> list[str]:
    return [json.loads(line)["message"] for line in (out / "events.jsonl").read_text().splitlines()]


def test_a_judge_with_every_fault_is_survived_and_nothing_is_scored_zero(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {1: fails(500), 4: says("I quite like it."), 7: says(None, refusal="I will not judge."), 8: HANGS}

    def answer(number: int, body: dict[str, Any]) -> Sent:
        return faults.get(number % 13) or good(number, body)  # 4 of 13: 31%

    with JudgeServer(answer) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        screen = StringIO()
        run_job(
            job(tmp_path, model, judge_timeout=1, judge_aliases={"o3-2025-04-16": "mine"}),
            tmp_path,
            tmp_path / "run",
            Console(file=screen, width=300),
        )
        assert {body["model"] for body in server.bodies} == {"mine"}
        assert set(server.keys) == {"Bearer sk-not-to-be-seen"}
    found = rollouts(tmp_path / "run")
    assert found.height == STEPS * BATCH * GROUP
    graded = found.filter(pl.col("grade_status") == "ok")
    failed = found.filter(pl.col("grade_status") == "error")
    assert set(failed["grade_error_kind"]) == ERRORS
    assert failed["grade_value"].null_count() == failed.height
    assert [round(v, 6) for v in graded["grade_value"]] == [round(0.1 + min(0.9, len(a) / 40), 6) for a in graded["answer"]]
    assert set(graded["grade_model"]) == {"mine"}
    assert {json.loads(usage)["mine"]["total_tokens"] for usage in graded["grade_usage"]} == {15}
    recorded = steps(tmp_path / "run")
    assert [line["step"] for line in recorded] == list(range(1, STEPS + 1))
    assert sum(line["num_ungraded"] for line in recorded) == failed.height > 0
    for line in recorded:
        of_step = graded.filter(pl.col("step") == line["step"])["grade_value"].to_list()
        assert line["train_reward_mean"] == pytest.approx(sum(of_step) / len(of_step))
    assert "o3-2025-04-16 -> mine at http" in screen.getvalue()
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"sk-not-to-be-seen" not in path.read_bytes()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, b: fails(500, "the model is overloaded"), "model_grader_server_error: .*answered 500: the model is overloaded"),
        (lambda n, b: says(None, refusal="I will not judge."), "model_grader_refusal_error: mine refused to judge: I will not"),
        (lambda n, b: says("Lovely!"), "model_grader_parse_error: .* mine answered: 'Lovely!'"),
        (lambda n, b: HANGS, "model_grader_server_error: .*no answer within 0.2 s"),
    ],
    ids=["fails", "refuses", "prose", "hangs"],
)
def test_when_errors_dominate_the_job_stops_and_shows_why(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    with JudgeServer(answer) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        body = job(tmp_path, model, judge_timeout=0.2 if "within" in words else 20, judge_aliases={"o3-2025-04-16": "mine"})
        with pytest.raises(JobFailed, match=rf"(?s)100% of the answers could not be graded.*\d x {words}"):
            run_job(body, tmp_path, tmp_path / "run", Console(file=StringIO()))


def test_a_base_that_nobody_grades_stops_before_training(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JudgeServer(lambda n, body: fails(401, "bad key sk-not-to-be-seen")) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        with pytest.raises(GraderError, match=r"(?s)none of 2 answers could be graded.*answered 401: bad key .hidden."):
            run_job(job(tmp_path, model, held_out=True), tmp_path, tmp_path / "run", Console(file=StringIO()))


@pytest.mark.slow
def test_a_spent_budget_pauses_and_the_same_command_goes_on_without_paying_twice(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str, **own: Any) -> str:
        screen = StringIO()
        run_job(job(tmp_path, model, held_out=True, **own), tmp_path, tmp_path / out, Console(file=screen, width=200))
        return screen.getvalue()

    with JudgeServer(good) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        run("whole")
        paid_for_all = server.count
        assert events(tmp_path / "whole")[-2].startswith(f"Judges were asked {paid_for_all} questions, {15 * paid_for_all:,} tokens;")
        run("again")  # the same job in another folder, all of it known
        assert server.count == paid_for_all

    with JudgeServer(good) as server:  # another port: nothing is known of it
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        with pytest.raises(typer.Exit) as stopped:
            run("paused", judge_budget_tokens=15 * (paid_for_all // 2), judge_concurrency=1)
        assert stopped.value.exit_code == 130
        assert server.count == paid_for_all // 2
        said = next(event for event in events(tmp_path / "paused") if event.startswith("Paused"))
        assert f"({paid_for_all // 2} questions, {15 * (paid_for_all // 2)} tokens); raise judge_budget_tokens to go on" in said
        with pytest.raises(typer.Exit):  # not raised: stops at once, asks nothing
            run("paused", judge_budget_tokens=15 * (paid_for_all // 2), judge_concurrency=1)
        assert server.count == paid_for_all // 2
        run("paused", judge_budget_tokens=10_000_000)
        assert server.count == paid_for_all
    columns = ["step", "row_index", "sample_index", "answer", "grade_status", "grade_value"]
    assert rollouts(tmp_path / "paused").select(columns).equals(rollouts(tmp_path / "whole").select(columns))
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "again", "paused")]
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.slow
def test_a_local_model_judges_a_job(tmp_path: Path, model: Path) -> None:
    """Random weights judge at random, but readably."""
    screen = StringIO()
    body = job(tmp_path, model, judge_aliases={"o3-2025-04-16": f"local:{model}"}, steps=1)
    run_job(body, tmp_path, tmp_path / "run", Console(file=screen, width=300))
    assert f"o3-2025-04-16 -> local:{model}" in screen.getvalue()
    found = rollouts(tmp_path / "run")
    assert found["grade_status"].to_list() == ["ok"] * BATCH * GROUP
    assert set(found["grade_model"]) == {f"local:{model}"}

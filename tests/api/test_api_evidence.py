"""What only we have: rollouts searched, numbers, warnings, the report, jobs side by side; and the `keys` commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import FakeWorker, Service, job_body, prepare
from openai import OpenAI
from openai.types import FileObject
from typer.testing import CliRunner

from pinetune.cli.main import app
from pinetune.evals.evaluate import build_report
from pinetune.records import Completion, Grade, Group, Prompt, Rollout, Row
from pinetune.runs.folder import RunFolder
from pinetune.runs.rollout_table import write_rollouts
from pinetune.settings import Settings
from pinetune.store import Store


def group(row: int, answers: dict[str, float | None]) -> Group:
    """One rollout an answer; a reward of None could not be graded."""
    prompt = Row(row, ({"role": "user", "content": f"Question {row}"},), {"n": row})
    rollouts = []
    for i, (answer, reward) in enumerate(answers.items()):
        grade = (
            Grade("error", error_kind="other_error", explanation="broke") if reward is None else Grade("ok", reward, parts={"a": reward})
        )
        completion = Completion((1, 2), (-0.5, -0.5), (False, False), "stop", answer)
        rollouts.append(Rollout(row, i, 2**63, completion, grade))
    return Group(prompt, Prompt((1, 2, 3)), tuple(rollouts))


@pytest.fixture(scope="module")
def run(client: OpenAI, service: Service, rows_file: FileObject, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, RunFolder]:
    """A finished job with two steps of rollouts."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.rollouts.mkdir()
    write_rollouts(folder.rollouts / "step-00001.parquet", 1, [group(0, {"Alpha": 0.0, "beta": 1.0}), group(1, {"gamma": None})])
    write_rollouts(folder.rollouts / "step-00002.parquet", 2, [group(0, {"delta 50%": 0.25, "alphabet": 0.75})])
    folder.write_eval(build_report(2, "tuned", [group(3, {"held-out alpha": 0.5})], None, 1.0), "final-tuned")
    folder.write_summary({"verdict": "better"})
    folder.write_report("<p>report</p>")
    job = client.fine_tuning.jobs.create(**{**job_body(rows_file.id), "validation_file": None})
    worker = FakeWorker(service.store, job.id, folder.path)
    worker.start()
    for step, valid in ((1, 0.2), (2, 0.1)):
        service.store.events.put_metrics(
            worker.lease, step, {"train_reward_mean": step / 10, "valid_reward_mean": valid, "loss": float("nan")}
        )
    worker.succeed()
    return job.id, folder


@pytest.mark.parametrize(
    ("query", "answers"),
    [
        ({}, ["Alpha", "beta", "gamma", "delta 50%", "alphabet"]),
        ({"step": 2}, ["delta 50%", "alphabet"]),
        ({"step": 3}, []),
        ({"row": 1}, ["gamma"]),
        ({"status": "error"}, ["gamma"]),
        ({"contains": "ALPHA"}, ["Alpha", "alphabet"]),
        ({"contains": "50%"}, ["delta 50%"]),
        ({"contains": "question 1"}, ["gamma"]),
        ({"min_reward": 0.25, "max_reward": 0.75}, ["delta 50%", "alphabet"]),
        ({"sort": "reward", "order": "desc"}, ["beta", "alphabet", "delta 50%", "Alpha", "gamma"]),
        ({"sort": "reward", "offset": 1, "limit": 2}, ["delta 50%", "alphabet"]),
        ({"text": "QUESTION 1"}, []),
        ({"prompt": "question 1"}, ["gamma"]),
        ({"regex": "^[a-b].*a"}, ["beta", "alphabet"]),
        ({"part": "a,0.5,0.8"}, ["alphabet"]),
        ({"row": 0, "sample": 1}, ["beta", "alphabet"]),
        ({"source": "eval"}, ["held-out alpha"]),
        ({"report": "final-tuned"}, ["held-out alpha"]),
        ({"report": "2"}, []),
        ({"source": "any", "contains": "alpha", "sort": "reward"}, ["Alpha", "held-out alpha", "alphabet"]),
    ],
)
def test_rollouts_are_searched(http: httpx.Client, run: tuple[str, RunFolder], query: dict[str, Any], answers: list[str]) -> None:
    page = http.get(f"/pinetune/jobs/{run[0]}/rollouts", params=query).json()
    assert [rollout["answer"] for rollout in page["data"]] == answers
    assert page["has_more"] is (query.get("limit") == 2)


def test_a_rollout_as_it_is_shown(http: httpx.Client, run: tuple[str, RunFolder]) -> None:
    (shown,) = http.get(f"/pinetune/jobs/{run[0]}/rollouts", params={"contains": "beta", "max_reward": 1, "min_reward": 1}).json()["data"]
    assert (shown["step"], shown["seed"], shown["logprob"], shown["completion_tokens"]) == (1, str(2**63), -1.0, 2)
    assert shown["messages"] == [{"role": "user", "content": "Question 0"}]
    assert shown["grade"] == {"status": "ok", "value": 1.0, "error_kind": "", "explanation": "", "parts": {"a": 1.0}, "seconds": 0.0}
    assert (shown["id"], shown["source"], shown["report"], shown["item"]) == ("train-1:0:1", "train", None, None)


def test_a_held_out_answer_has_its_row(http: httpx.Client, run: tuple[str, RunFolder]) -> None:
    (shown,) = http.get(f"/pinetune/jobs/{run[0]}/rollouts", params={"source": "eval"}).json()["data"]
    assert (shown["id"], shown["source"], shown["report"], shown["step"]) == ("eval-final-tuned:3:0", "eval", "final-tuned", 2)
    assert (shown["item"], shown["seed"], shown["logprob"], shown["grade"]["seconds"]) == ({"n": 3}, str(2**63), -1.0, 0.0)


@pytest.mark.parametrize(
    ("query", "param", "said"),
    [
        ({"regex": "("}, "regex", "unclosed group"),
        ({"regex": r"\p{L}{500}{50}"}, "regex", "size limit"),
        ({"part": "a,0"}, "part", "a name and two numbers"),
        ({"part": "a,x,1"}, "part", "a name and two numbers"),
        ({"source": "both"}, "source", "train"),
    ],
)
def test_a_query_that_cannot_be_meant(http: httpx.Client, run: tuple[str, RunFolder], query: dict[str, str], param: str, said: str) -> None:
    reply = http.get(f"/pinetune/jobs/{run[0]}/rollouts", params=query)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert said in reply.json()["error"]["message"]


def test_numbers_warnings_and_report(http: httpx.Client, run: tuple[str, RunFolder]) -> None:
    job, _ = run
    numbers = http.get(f"/pinetune/jobs/{job}/metrics", params={"after_step": 1}).json()["data"]
    assert [(row["step"], row["metrics"]) for row in numbers] == [(2, {"train_reward_mean": 0.2, "valid_reward_mean": 0.1, "loss": None})]
    (warning,) = http.get(f"/pinetune/jobs/{job}/warnings").json()["data"]
    assert (warning["level"], "No validation file" in warning["message"]) == ("warn", True)
    report = http.get(f"/pinetune/jobs/{job}/report")
    assert (report.text, report.headers["content-type"]) == ("<p>report</p>", "text/html; charset=utf-8")
    assert "default-src 'none'" in report.headers["content-security-policy"]


def test_jobs_side_by_side(http: httpx.Client, client: OpenAI, rows_file: FileObject, run: tuple[str, RunFolder]) -> None:
    waiting = client.fine_tuning.jobs.create(**job_body(rows_file.id))
    one, other = http.get("/pinetune/comparison", params={"job": [run[0], waiting.id]}).json()["data"]
    assert (one["best_step"], one["best_valid_reward_mean"], one["last_train_reward_mean"], one["summary"]) == (
        1,
        0.2,
        0.2,
        {"verdict": "better"},
    )
    assert (other["status"], other["best_step"], other["summary"]) == ("validating_files", None, None)
    assert http.get(f"/pinetune/jobs/{waiting.id}/rollouts").json()["total"] == 0
    assert http.get(f"/pinetune/jobs/{waiting.id}/report").json()["error"]["code"] == "run_not_found"
    assert http.get("/pinetune/jobs/ftjob-none/rollouts").status_code == 404
    assert http.get("/pinetune/comparison").json()["error"]["param"] == "job"


def test_the_keys_commands(tmp_path: Path) -> None:
    prepare(tmp_path)
    home = ["--home", str(tmp_path)]
    runner = CliRunner()
    made = runner.invoke(app, ["keys", "create", "--name", "laptop", "--project", "cardiology", *home])
    secret = made.stdout.strip()
    assert secret.startswith("sk-pt-") and "cardiology" in made.stderr
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        key = store.keys.check(secret)
        assert key is not None and store.projects.get(key.project).name == "cardiology"
    listed = runner.invoke(app, ["keys", "list", *home]).stdout
    assert "laptop" in listed and "cardiology" in listed and secret not in listed
    assert runner.invoke(app, ["keys", "revoke", secret[:12] + "...", *home]).stdout == "revoked\n"
    assert "revoked" in runner.invoke(app, ["keys", "list", *home]).stdout
    again = runner.invoke(app, ["keys", "revoke", secret, *home])
    assert "no key that still works" in str(again.exception)
    assert secret not in str(again.exception)


def test_where_a_run_is_comes_from_its_worker_only(worker_of: Callable[[str], FakeWorker], http: httpx.Client) -> None:
    for job in ("..", "%2e%2e", "..%2f..%2fetc"):
        assert http.get(f"/pinetune/jobs/{job}/report").status_code == 404

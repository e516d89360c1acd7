"""`pinetune eval`: run on rows, on an endpoint, on a model here; go on where it stopped; show, list, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, Sent, fails, says
from tiny_models import save_tiny
from typer.testing import CliRunner

from pinetune.cli.main import app
from pinetune.errors import JobFailed, UserError
from pinetune.rollout.run import derive_seed
from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, Store

EXACT = {"type": "string_check", "name": "exact", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
EVAL = {
    "name": "sums",
    "testing_criteria": [EXACT],
    "input_messages": {"type": "template", "template": [{"role": "user", "content": "Say {{ item.answer }}."}]},
}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PINETUNE_HOME", str(tmp_path / "home"))
    for name in ("OPENAI_API_KEY", "PINETUNE_REMOTE_MODELS", "PINETUNE_JUDGE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "eval.json").write_text(json.dumps(EVAL))
    write_rows(tmp_path / "rows.jsonl", 8)


def write_rows(path: Path, count: int, sample: int | None = None) -> None:
    rows = [{"item": {"answer": str(i)}, **({"sample": {"output_text": str(i % sample)}} if sample else {})} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def call(*args: str) -> Any:
    found = CliRunner().invoke(app, ["eval", *args], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout) if "--json" in args else found.stdout


def echo(_: int, body: dict[str, Any]) -> Sent:
    return says(body["messages"][-1]["content"].removeprefix("Say ").removesuffix("."))


def test_rows_that_bring_their_answers(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 8, sample=4)
    found = call("run", "eval.json", "--data", "rows.jsonl", "--json")
    assert found["result_counts"] == {"total": 8, "errored": 0, "failed": 4, "passed": 4}
    assert (found["run"], found["metrics"]["passed"]["value"]) == ("runs/evals/sums--answers.jsonl", 0.5)
    text = call("show", "runs/evals/sums--answers.jsonl", "--failed", "1")
    assert "0.500" in text and "no model was asked" in text and "answered: 0\n  right:    4\n" in text
    assert "exact score" in text and "exact passed" not in text  # the only criterion: "passed" says it


def test_an_endpoint_is_asked_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(number: int, body: dict[str, Any]) -> Sent:
        if number == 4:
            raise_after.append(number)
        return echo(number, body)

    raise_after: list[int] = []
    monkeypatch.setenv("MY_KEY", "sk-mine")
    with JudgeServer(breaks) as server:
        flags = ("--data", "rows.jsonl", "--model", "big", "--base-url", server.url, "--key-env", "MY_KEY", "--temperature", "0")
        first = call("run", "eval.json", *flags, "--rows", "8", "--json")
        lines = (tmp_path / first["run"]).read_text().splitlines()
        (tmp_path / first["run"]).write_text("\n".join(lines[:4]) + '\n{"position": 3, "sta')  # killed while it wrote the fourth item
        again = call("run", "eval.json", *flags, "--rows", "8", "--json")
        assert server.count == 8 + 5
        assert call("run", "eval.json", *flags, "--rows", "8", "--json") == again
        assert server.count == 8 + 5
    assert again["result_counts"] == first["result_counts"] == {"total": 8, "errored": 0, "failed": 0, "passed": 8}
    assert server.keys[0] == "Bearer sk-mine"
    assert "sk-mine" not in (tmp_path / first["run"]).read_text()


def test_several_samples_of_a_row_are_one_row(tmp_path: Path) -> None:
    seconds = {derive_seed(42, row, 1) >> 32 for row in range(8)}
    with JudgeServer(lambda number, body: echo(number, body) if body["seed"] in seconds else says("no")) as server:
        found = call("run", "eval.json", "--data", "rows.jsonl", "--model", "big", "--base-url", server.url, "--samples", "2", "--json")
    assert (found["num_rows"], found["num_items"]) == (8, 16)
    assert (found["metrics"]["passed"]["value"], found["metrics"]["passed"]["n"]) == (0.5, 8)


@pytest.mark.slow
def test_a_model_trained_anew_in_its_folder_is_not_the_one_that_was_measured(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", seed=1)
    asked = ("run", "eval.json", "--data", "rows.jsonl", "--model", "model", "--max-tokens", "4", "--json")
    first = call(*asked)
    assert call(*asked) == first
    save_tiny(tmp_path / "model", seed=2)
    with pytest.raises(UserError, match="holds a run with other settings; choose another --out"):
        call(*asked)


def test_a_vote_is_a_server_s_business(tmp_path: Path) -> None:
    (tmp_path / "several.json").write_text(json.dumps({**EVAL, "sampling_params": {"pinetune": {"samples": 4}}}))
    with pytest.raises(UserError, match=r"several.json: sampling_params.pinetune: .*use pinetune vote"):
        call("run", "several.json", "--data", "rows.jsonl", "--model", "pinetune-mini")


def test_answers_that_fail_are_told_and_counted(tmp_path: Path) -> None:
    with JudgeServer(lambda *_: fails(400, "too long")) as server:
        flags = ("--data", "rows.jsonl", "--model", "big", "--base-url", server.url)
        with pytest.raises(JobFailed, match="not one of 8 answers"):
            call("run", "eval.json", *flags, "--concurrency", "2")
    listed = call("list", "--json")
    assert [(run["model"], run["total"], run["errored"]) for run in listed] == [("big", 8, 8)]


def test_two_runs_are_compared_with_what_the_rows_can_show(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 12, sample=3)
    write_rows(tmp_path / "b.jsonl", 12, sample=12)
    for name in "ab":
        call("run", "eval.json", "--data", f"{name}.jsonl", "--out", f"{name}.run.jsonl", "--json")
    found = call("compare", "a.run.jsonl", "b.run.jsonl", "--json")
    passed = found["metrics"]["passed"]
    assert (found["num_rows"], passed["first"], passed["second"], passed["difference"]["value"]) == (12, 0.25, 1.0, 0.75)
    assert passed["p_value"] == 2 / 2**9 and 0 < passed["smallest_difference"] < 1
    text = call("compare", "a.run.jsonl", "b.run.jsonl")
    assert "The second is better" in text and "12 rows show a difference of" in text
    assert "No difference is shown" in call("compare", "a.run.jsonl", "a.run.jsonl")


def test_five_better_and_none_worse_is_no_proof(tmp_path: Path) -> None:
    """Their interval leaves zero out, and yet a coin falls five times alike once in sixteen tries."""
    write_rows(tmp_path / "a.jsonl", 60, sample=55)
    write_rows(tmp_path / "b.jsonl", 60, sample=60)
    for name in "ab":
        call("run", "eval.json", "--data", f"{name}.jsonl", "--out", f"{name}.run.jsonl", "--json")
    passed = call("compare", "a.run.jsonl", "b.run.jsonl", "--json")["metrics"]["passed"]
    assert passed["difference"]["low"] > 0 and passed["p_value"] == 2 / 2**5
    text = " ".join(call("compare", "a.run.jsonl", "b.run.jsonl").split())
    assert "No difference is shown: p is 0.062." in text and "is better" not in text


def test_labels_of_a_closed_set_are_told_about_rows_alone(tmp_path: Path) -> None:
    labels = [{"item": {"answer": "yes" if i % 2 else "no"}, "sample": {"output_text": "yes"}} for i in range(20)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    assert call("run", "eval.json", "--data", "labels.jsonl", "--out", "labels.run.jsonl", "--json")["num_clusters"] == 2
    hint = "These 20 rows have 2 different right answers, and rows with one answer count together."
    for args in (("show", "labels.run.jsonl"), ("compare", "labels.run.jsonl", "labels.run.jsonl")):
        assert hint in " ".join(call(*args).split())
        assert "--rows-alone" not in call(*args, "--rows-alone")


def test_runs_graded_by_two_definitions_are_no_comparison_of_models(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", 12, sample=3)
    (tmp_path / "other.json").write_text(json.dumps({**EVAL, "testing_criteria": [{**EXACT, "operation": "ne"}]}))
    for name in ("eval", "other"):
        call("run", f"{name}.json", "--data", "a.jsonl", "--out", f"{name}.run.jsonl", "--json")
    assert call("compare", "eval.run.jsonl", "other.run.jsonl", "--json")["graded_differently"] == ["exact"]
    text = " ".join(call("compare", "eval.run.jsonl", "other.run.jsonl").split())
    assert "the two were graded by other definitions of exact" in text and "is better" not in text
    assert call("compare", "eval.run.jsonl", "eval.run.jsonl", "--json")["graded_differently"] == []


def test_runs_of_the_servers_store_are_shown_too(tmp_path: Path) -> None:
    with Store.open(Settings.read({}, home=tmp_path / "home")) as store:
        evaluation = store.evals.create(
            DEFAULT_PROJECT, {"data_source_config": {"type": "logs"}, "testing_criteria": [{**EXACT, "id": "x"}]}
        )
        run = store.eval_runs.create(evaluation.id, DEFAULT_PROJECT, {"data_source": {}}, name="Step 0", model="tiny")
    assert [(found["run"], found["status"]) for found in call("list", "--json")] == [(run.id, "queued")]
    with pytest.raises(UserError, match="no output items yet"):
        call("show", run.id)
    with pytest.raises(UserError, match="no such run"):
        call("show", "evalrun_none")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none.json", "--data", "rows.jsonl"), "none.json: cannot be read"),
        (("eval.json",), "--data is missing"),
        (("eval.json", "--data", "rows.jsonl"), "--model is missing"),
        (("eval.json", "--data", "rows.jsonl", "--model", "no-such-model"), "no-such-model: no such model"),
        (("eval.json", "--data", "rows.jsonl", "--model", "x", "--base-url", "http://x", "--key-env", "NO_SUCH"), "NO_SUCH is not set"),
        (("typo.json", "--data", "rows.jsonl"), "did you mean 'testing_criteria'"),
    ],
)
def test_mistakes_are_one_clear_error(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    (tmp_path / "typo.json").write_text(json.dumps({"testing_criterias": [EXACT]}))
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        call("run", *args)


def test_a_run_file_is_not_mixed_with_another(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 4, sample=4)
    call("run", "eval.json", "--data", "rows.jsonl")
    write_rows(tmp_path / "rows.jsonl", 5, sample=4)
    with pytest.raises(UserError, match="holds a run with other data; choose another --out"):
        call("run", "eval.json", "--data", "rows.jsonl")


@pytest.mark.parametrize("kind", ["grader", "job"])
def test_a_grader_or_a_jobs_body_is_an_eval_too(tmp_path: Path, kind: str) -> None:
    job = {"model": "m", "training_file": "t", "method": {"type": "reinforcement", "reinforcement": {"grader": EXACT}}, "suffix": "expert"}
    (tmp_path / "it.json").write_text(json.dumps(EXACT if kind == "grader" else job))
    rows = [{"messages": [{"role": "user", "content": f"Say {i}."}], "answer": str(i)} for i in range(3)]
    (tmp_path / "rft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with JudgeServer(echo) as server:
        found = call("run", "it.json", "--data", "rft.jsonl", "--model", "big", "--base-url", server.url, "--json")
    assert (found["eval"], found["result_counts"]["passed"]) == ("it" if kind == "grader" else "expert", 3)


def test_a_promptfoo_config_is_run_as_it_is(tmp_path: Path) -> None:
    tests = "".join(f"  - vars: {{n: '{i}'}}\n    assert: [{{type: equals, value: '{i}'}}]\n" for i in range(3))
    (tmp_path / "promptfooconfig.yaml").write_text(f"prompts: ['Say {{{{n}}}}.']\ntests:\n{tests}")
    with JudgeServer(echo) as server:
        found = call("run", "promptfooconfig.yaml", "--model", "big", "--base-url", server.url, "--json")
    assert (found["result_counts"]["passed"], found["eval"]) == (3, "promptfooconfig")


@pytest.mark.slow
def test_a_model_here_is_sampled_and_goes_on_exactly(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Case {i}"}], "answer": "x"} for i in range(3)]
    (tmp_path / "rft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--data", "rft.jsonl", "--model", "pinetune-mini", "--samples", "2", "--max-tokens", "8", "--out", "run.jsonl", "--json")
    first = call("run", "eval.json", *flags)
    assert first["result_counts"]["total"] == 6 and first["per_model_usage"][0]["model_name"] == "pinetune-mini"
    whole = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    (tmp_path / "run.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in whole if line.get("position", 0) not in (3, 4) and "result" not in line)
    )
    call("run", "eval.json", *flags)
    again = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    by_place = [{line["position"]: line["sample"]["output"] for line in lines if "position" in line} for lines in (whole, again)]
    assert by_place[0] == by_place[1]

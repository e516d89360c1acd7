"""inspect_ai logs: ours come back as they were, its reader opens them, and its accuracy is ours."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import UserError
from pinetune.evals.inspect_log import read_inspect_log, write_inspect_log
from pinetune.evals.items import tally
from pinetune.evals.measures import measure
from pinetune.evals.run_file import StoredRun

# An interpreter that has inspect_ai, where this one does not: its dependencies do not go with our pins.
PYTHON = os.environ.get("INSPECT_AI_PYTHON") or (sys.executable if importlib.util.find_spec("inspect_ai") else None)
READER = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
from inspect_ai.scorer import Score, accuracy
from inspect_ai.scorer._metric import SampleScore
from inspect_ai.scorer._reducer import mean_score
scores = {score.name: {name: metric.value for name, metric in score.metrics.items()} for score in log.results.scores}
values = {}
for sample in log.samples:
    for name, score in (sample.scores or {}).items():
        values.setdefault(name, {}).setdefault(sample.id, []).append(score)
again = {}
for name, by_sample in values.items():
    reduced = [SampleScore(score=mean_score()(found)) for found in by_sample.values()]
    again[name] = accuracy()(reduced)
print(json.dumps({"status": log.status, "model": log.eval.model, "samples": len(log.samples), "scores": scores, "again": again,
                  "answers": [sample.output.completion for sample in log.samples]}))
"""


def item(row: int, score: float | None, answer: str = "yes") -> dict[str, Any]:
    exact = {"name": "exact", "type": "string-check-grader", "score": score or 0.0, "passed": score == 1.0, "sample": None}
    if score is None:
        exact["error"] = {"code": "other_error", "message": "no"}
    like = {"name": "like", "type": "text-similarity-grader", "score": 0.25 * row, "passed": row > 1, "sample": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cached_tokens": 0}
    sample = {
        "input": [{"role": "developer", "content": "Be brief.", "name": None}, {"role": "user", "content": f"Q{row}", "name": None}],
        "output": [{"role": "assistant", "content": answer}], "finish_reason": "stop", "model": "tiny", "usage": usage, "error": None,
        "temperature": 1.0, "max_completion_tokens": 16, "top_p": 1.0, "seed": 42,
    }  # fmt: skip
    status = "error" if score is None else "pass" if exact["passed"] and like["passed"] else "fail"
    body = {"datasource_item_id": row, "datasource_item": {"answer": "yes"}, "results": [exact, like], "sample": sample}
    return {"position": row, "status": status, **body}


def a_run(items: list[dict[str, Any]]) -> StoredRun:
    result = tally(((each["status"], each) for each in items), ["exact", "like"])
    params = {"temperature": 1.0, "max_completion_tokens": 16}
    return StoredRun("run", "sums", "tiny", 1_700_000_000.0, "completed", items, result, ["exact", "like"], params, "rows.jsonl")


RUN = a_run([item(0, 1.0), item(1, 0.0, "no"), item(2, 1.0), item(3, None), item(4, 1.0)])


def test_a_log_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_inspect_log(RUN, path)
    back = read_inspect_log(path)
    assert (back.eval_name, back.model, back.created_at, back.status, back.data) == (
        "sums",
        "tiny",
        RUN.created_at,
        "completed",
        "rows.jsonl",
    )
    assert list(back.items) == list(RUN.items)
    assert back.result == RUN.result


def test_scores_stand_as_inspect_ai_has_them(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_inspect_log(RUN, path)
    log = json.loads(path.read_text())
    assert log["version"] == 2 and log["status"] == "success"
    assert [sample["scores"].get("exact", {}).get("value") for sample in log["samples"]] == ["C", "I", "C", None, "C"]
    assert log["samples"][1]["scores"]["like score"]["value"] == 0.25
    metrics = {score["name"]: next(iter(score["metrics"].values()))["value"] for score in log["results"]["scores"]}
    assert metrics == {"exact": 0.75, "like": 0.6, "like score": 0.5}
    ours = measure(RUN.items).measures
    assert (ours["exact passed"].value, ours["like passed"].value, ours["like score"].value) == (0.75, 0.6, 0.5)


def test_a_log_that_inspect_ai_made_is_read(tmp_path: Path) -> None:
    """The shape that its own tasks write, with the fields that matter."""
    facts = {"created": "2026-01-02T03:04:05+00:00", "task": "theirs", "model": "openai/gpt-x", "dataset": {"name": "d"}, "config": {}}
    output = {
        "model": "gpt-x",
        "choices": [{"message": {"role": "assistant", "content": [{"type": "text", "text": "Lima"}]}, "stop_reason": "stop"}],
    }
    samples = [
        {"id": "a", "epoch": 1, "input": "Peru?", "target": "Lima", "output": output, "scores": {"match": {"value": "C"}}, "metadata": {}},
        {"id": "b", "epoch": 1, "input": "Peru?", "target": "Lima", "output": output, "scores": {"match": {"value": 0.25}}},
        {"id": "c", "epoch": 1, "input": "Peru?", "target": "Lima", "output": {}, "error": {"message": "boom"}, "scores": {}},
        {"id": "d", "epoch": 1, "input": "Peru?", "target": "Lima", "output": output, "scores": {"match": {"value": float("nan")}}},
    ]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": facts, "samples": samples}))
    back = read_inspect_log(path)
    assert [each["status"] for each in back.items] == ["pass", "fail", "error", "error"]
    assert back.items[0]["sample"]["output"] == [{"role": "assistant", "content": "Lima"}]
    assert measure(back.items).measures["match score"].value == 0.625
    assert back.items[2]["sample"]["error"]["message"] == "boom"


@pytest.mark.parametrize(("text", "said"), [('{"a": 1}', "is no inspect_ai log"), ('{"version": 2, "eval": {}}', "holds no samples")])
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read_inspect_log(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"end in \.json"):
        write_inspect_log(RUN, tmp_path / "x.txt")


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="inspect_ai is not installed here, nor named by INSPECT_AI_PYTHON (a Python that has it)")
def test_inspect_ai_opens_our_log_and_finds_our_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_inspect_log(RUN, path)
    done = subprocess.run([str(PYTHON), "-c", READER, str(path)], capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["status"], found["model"], found["samples"]) == ("success", "tiny", 5)
    assert found["answers"] == ["yes", "no", "yes", "yes", "yes"]
    ours = measure(RUN.items).measures
    assert found["scores"]["exact"] == {"accuracy": ours["exact passed"].value}
    assert found["again"]["exact"] == pytest.approx(ours["exact passed"].value)
    assert found["again"]["like"] == pytest.approx(ours["like passed"].value)
    assert found["again"]["like score"] == pytest.approx(ours["like score"].value)

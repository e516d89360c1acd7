"""A whole job on a tiny model: it really learns, and leaves evidence, a report and weights that open anywhere."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from pinetune.cli.chat import chat_command
from pinetune.cli.run import run_job

# Rewards answers that end early: a policy of random weights can learn that in a few steps.
GRADER = "def grade(sample, item):\n    return max(0.0, 1 - len(sample['output_text']) / 40)\n"


def job(folder: Path, **own: Any) -> dict[str, Any]:
    def write(name: str, words: list[str]) -> str:
        rows = [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word} for word in words]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    return {
        "model": "tiny",
        "training_file": write("train.jsonl", [f"a{i}" for i in range(8)]),
        "validation_file": write("valid.jsonl", [f"b{i}" for i in range(6)]),
        "seed": 3,
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": {"type": "python", "name": "short", "source": GRADER}, "hyperparameters": {"eval_interval": 5}},
        },
        "pinetune": {
            "steps": 15, "group_size": 8, "max_tokens": 40, "stop": ["e", "a"], "learning_rate": 3e-3, "threads": 1,
            "test_file": write("test.jsonl", [f"c{i}" for i in range(20)]), "unsafe_python_graders": True, **own,
        },
    }  # fmt: skip


@pytest.mark.slow
def test_a_job_learns_and_leaves_evidence_and_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "tiny")
    screen = StringIO()
    body = job(tmp_path)
    summary = run_job(body, tmp_path, tmp_path / "run", Console(file=screen, width=200))
    base, tuned = summary["base"]["reward"], summary["tuned"]["reward"]
    assert tuned["value"] > base["value"]
    assert base["ci95"][0] <= base["value"] <= base["ci95"][1]
    assert summary["n"] == 20
    assert summary["overlap_of_answers"] == 0
    said = screen.getvalue()
    assert "held-out, step 0" in said
    assert "learning_rate" in said and "0.003" in said
    for name in ("job.json", "provenance.json", "events.jsonl", "metrics.jsonl", "report.html", "summary.json", "report/numbers.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert "temperature 0" in (tmp_path / "run" / "report.html").read_text()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Say c1."}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]
    capsys.readouterr()
    chat_command(str(tmp_path / "run"), "Say c1.", max_tokens=20, temperature=1.0, seed=0)
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_a_finished_job_run_again_trains_nothing_and_gives_the_same_summary(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    body = job(tmp_path, steps=2)
    first = run_job(body, tmp_path, tmp_path / "run", Console(file=StringIO()))
    steps = (tmp_path / "run" / "metrics.jsonl").read_text()
    again = run_job(body, tmp_path, tmp_path / "run", Console(file=StringIO()))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == steps
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in first.items() if k != "seconds"}


@pytest.mark.slow
def test_another_job_in_the_same_run_folder_is_refused(tmp_path: Path) -> None:
    from pinetune.errors import JobError

    save_tiny(tmp_path / "tiny")
    run_job(job(tmp_path, steps=1), tmp_path, tmp_path / "run", Console(file=StringIO()))
    with pytest.raises(JobError, match="holds another job"):
        run_job(job(tmp_path, steps=1, learning_rate=1e-4), tmp_path, tmp_path / "run", Console(file=StringIO()))

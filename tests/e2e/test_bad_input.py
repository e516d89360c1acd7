"""A dozen and more bad inputs through the real command: each one clear line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

Change = Callable[[dict[str, Any], Path], None]


def good_job() -> dict[str, Any]:
    grader = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
    return {
        "model": "tiny",
        "training_file": "train.jsonl",
        "validation_file": "valid.jsonl",
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    save_tiny(folder / "tiny")
    row = '{"messages":[{"role":"user","content":"%s"}],"answer":"%s"}\n'
    (folder / "train.jsonl").write_text(row % ("a", "x") + row % ("b", "y"))
    (folder / "valid.jsonl").write_text(row % ("c", "z"))
    (folder / "leaky.jsonl").write_text(row % ("c", "x"))
    (folder / "broken.jsonl").write_text(row % ("a", "x") + '{"messages": [}\n')
    (folder / "assistant.jsonl").write_text('{"messages":[{"role":"assistant","content":"hi"}],"answer":"q"}\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "latin.jsonl").write_bytes('{"messages":[{"role":"user","content":"é"}]}\n'.encode("latin-1"))
    (folder / "long.jsonl").write_text(row % ("word " * 5000, "w"))
    (folder / "not-a-model").mkdir()
    return folder


def run(folder: Path, job: object) -> subprocess.CompletedProcess[str]:
    (folder / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
    command = [sys.executable, "-m", "pinetune", "run", "job.json", "--out", "out"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def put(path: str, value: Any) -> Change:
    def change(job: dict[str, Any], folder: Path) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            job = job.setdefault(parent, {})
        job[last] = value

    return change


GRADER = "method.reinforcement.grader"
CASES: dict[str, tuple[Change, str]] = {
    "training file absent": (put("training_file", "gone.jsonl"), "training_file: gone.jsonl: no such file"),
    "broken JSON": (put("training_file", "broken.jsonl"), "broken.jsonl:2: "),
    "last message not the user's": (put("training_file", "assistant.jsonl"), "assistant.jsonl:1: messages"),
    "empty file": (put("training_file", "empty.jsonl"), "empty.jsonl"),
    "not UTF-8": (put("training_file", "latin.jsonl"), "latin.jsonl:1: "),
    "leaked answers": (put("validation_file", "leaky.jsonl"), "leaky.jsonl"),
    "too long": (put("training_file", "long.jsonl"), "long.jsonl:1: messages: "),
    "no such model": (put("model", "missing-model"), "missing-model: no such model"),
    "folder without a model": (put("model", "not-a-model"), "not-a-model: no config.json in this folder"),
    "unknown hyperparameter": (put("method.reinforcement.hyperparameters", {"epochs": 3}), "did you mean 'n_epochs'?"),
    "batch size 0": (put("method.reinforcement.hyperparameters", {"batch_size": 0}), "hyperparameters.batch_size: "),
    "unknown grader": (put(f"{GRADER}.type", "string_chek"), "string_check"),
    "grader without input": (put(GRADER, {"type": "string_check", "name": "n", "reference": "r", "operation": "eq"}), f"{GRADER}.input"),
    "python grader without grade": (put(GRADER, {"type": "python", "source": "x = 1"}), "grade"),
    "python grader with a syntax error": (put(GRADER, {"type": "python", "source": "def grade(sample, item:\n  return 1"}), "line 1"),
    "supervised": (put("method", {"type": "supervised"}), "only reinforcement jobs run here yet"),
    "unknown loss": (put("pinetune.loss", "ppo2"), "pinetune.loss: unknown loss 'ppo2'"),
    "unknown device": (put("pinetune.device", "tpu"), "tpu"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_clear_line_and_exit_code_2(folder: Path, name: str) -> None:
    change, words = CASES[name]
    job = copy.deepcopy(good_job())
    change(job, folder)
    done = run(folder, job)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) <= 4
    assert not (folder / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{", "[]", '"job"'])
def test_a_job_file_that_is_no_job(folder: Path, text: str) -> None:
    done = run(folder, text)
    assert done.returncode == 2
    assert done.stderr.startswith("error: job.json")


@pytest.mark.slow
def test_another_job_in_the_same_folder_is_refused_and_nothing_is_lost(folder: Path) -> None:
    out = folder / "other"
    out.mkdir(exist_ok=True)
    (out / "precious.txt").write_text("keep me")
    (folder / "job.json").write_text(json.dumps(good_job()))
    command = [sys.executable, "-m", "pinetune", "run", "job.json", "--out", "other"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "other is not empty and holds no job; choose another --out" in done.stderr
    assert (out / "precious.txt").read_text() == "keep me"

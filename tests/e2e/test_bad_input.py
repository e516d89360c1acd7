"""A dozen and more bad inputs through the command's own entry point: one clear line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

from pinetune.cli.main import main

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


def run(folder: Path, job: object, patch: pytest.MonkeyPatch, out: str = "out") -> int:
    """`pinetune run job.json` in `folder`, in this process: a new one would load torch for each case."""
    (folder / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
    patch.chdir(folder)
    patch.setattr(sys, "argv", ["pinetune", "run", "job.json", "--out", out])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


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


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line_and_exit_code_2(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = CASES[name]
    job = copy.deepcopy(good_job())
    change(job, folder)
    assert run(folder, job, monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert len(said.strip().splitlines()) <= 4
    assert not (folder / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", '"job"'])
def test_a_job_file_that_is_no_job(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, text, monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: job.json")


def test_foreign_files_in_the_run_folder_are_refused_and_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "precious.txt").write_text("keep me")
    assert run(folder, good_job(), monkeypatch, out="other") == 2
    assert "other is not empty and holds no job; choose another --out" in capsys.readouterr().err
    assert (folder / "other" / "precious.txt").read_text() == "keep me"

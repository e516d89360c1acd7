"""Supervised and DPO jobs in this process: a stopped one goes on to the same weights; what is checked without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny

from pinetune.errors import DataError, JobError
from pinetune.loop.methods import method_of
from pinetune.runs.folder import RunFolder
from pinetune.runs.recorder import FolderRecorder

USER = {"role": "user", "content": "Say it."}


def body(folder: Path, method: str) -> dict[str, Any]:
    rows: list[Any] = [{"messages": [USER, {"role": "assistant", "content": f"The fox {w}"}]} for w in "abcde"]
    if method == "dpo":
        good, bad = ([{"role": "assistant", "content": text}] for text in ("The fox", "A dog"))
        rows = [
            {"input": {"messages": [{**USER, "content": f"Say {w}"}]}, "preferred_output": good, "non_preferred_output": bad}
            for w in "abcde"
        ]
    for name, some in (("train.jsonl", rows), ("valid.jsonl", rows[:2])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some))
    return {
        "model": "tiny", "training_file": "train.jsonl", "validation_file": "valid.jsonl", "seed": 3,
        "method": {"type": method, method: {"hyperparameters": {"n_epochs": 2, "batch_size": 2}}},
        "pinetune": {"threads": 1, "lora": "off", "learning_rate": 1e-3, "device": "cpu"},
    }  # fmt: skip


class StopsAfter(FolderRecorder):
    """Asks to stop once `steps` steps stand in the folder."""

    def __init__(self, run: RunFolder, steps: int) -> None:
        super().__init__(run)
        self._steps = steps

    def stop_requested(self) -> bool:
        return len([row for row in self.run.read_metrics() if row["step"]]) >= self._steps


def go(raw: dict[str, Any], folder: Path, source: str, out: Path, steps: int = 100) -> str:
    prepare, _ = method_of(raw)
    job = prepare(raw, folder, source)
    run = job.open_run(out)
    recorder = StopsAfter(run, steps)
    state = job.run(run, recorder)
    if state.stop_reason != "stopped":
        job.finish(run, recorder, state)
    job.close()
    return state.stop_reason


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_a_stopped_job_ends_like_an_undisturbed_one(tmp_path: Path, method: str) -> None:
    source, raw = str(save_tiny(tmp_path / "tiny")), body(tmp_path, method)
    assert go(raw, tmp_path, source, tmp_path / "whole") == "finished"
    assert go(raw, tmp_path, source, tmp_path / "parts", 2) == "stopped"
    assert go(raw, tmp_path, source, tmp_path / "parts") == "finished"
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    assert (whole.model / "model.safetensors").read_bytes() == (parts.model / "model.safetensors").read_bytes()
    numbers = [[{k: v for k, v in row.items() if "seconds" not in k} for row in run.read_metrics()] for run in (whole, parts)]
    assert numbers[0] == numbers[1]
    assert [row["step"] for row in numbers[0]] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in numbers[0] if "full_valid_loss" in row] == [0, 3, 6]
    assert numbers[0][-1]["full_valid_loss"] < numbers[0][0]["full_valid_loss"]


def test_checks_need_no_weights(tmp_path: Path) -> None:
    source, raw = save_tiny(tmp_path / "tiny"), body(tmp_path, "supervised")
    (source / "model.safetensors").unlink()
    _, check = method_of(raw)
    assert check(raw, tmp_path, str(source)) == []
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": [USER]}) + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl:1: messages\[0\]\.role: the last message must be the assistant's"):
        check(raw, tmp_path, str(source))


def test_a_row_that_is_too_long_is_named(tmp_path: Path) -> None:
    source, raw = save_tiny(tmp_path / "tiny", max_position_embeddings=16), body(tmp_path, "supervised")
    _, check = method_of(raw)
    with pytest.raises(DataError, match=r"train\.jsonl:1: messages: \d+ tokens, and the model reads 16; shorten the row"):
        check(raw, tmp_path, str(source))


def test_other_data_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    source, raw = str(save_tiny(tmp_path / "tiny")), body(tmp_path, "supervised")
    go(raw, tmp_path, source, tmp_path / "run", 1)
    (tmp_path / "train.jsonl").write_text((tmp_path / "valid.jsonl").read_text())
    with pytest.raises(JobError, match="holds another job"):
        go(raw, tmp_path, source, tmp_path / "run")

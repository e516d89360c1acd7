"""kill -9 at a random step, then the same command again: weights and rollouts bit-identical to an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

STEPS = 8
PATIENCE = 600  # seconds for anything: a busy machine must not decide what passes
pytestmark = pytest.mark.timeout(2 * PATIENCE)
GRADER = "def grade(sample, item):\n    return min(1.0, len(sample['output_text']) / 40)\n"


def write_job(folder: Path, model: Path, **own: object) -> Path:
    """Reward: the length of the answer. Any random model varies in it, so every group teaches something."""
    rows = [{"messages": [{"role": "user", "content": f"Say something about {word}."}]} for word in "abcdefgh"]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[6:]))
    grader = {"type": "python", "name": "length", "source": GRADER}
    job = {
        "model": str(model),
        "training_file": "train.jsonl",
        "validation_file": "valid.jsonl",
        "seed": 7,
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": grader, "hyperparameters": {"batch_size": 3, "eval_interval": 2, "eval_samples": 2}},
        },
        "pinetune": {
            "steps": STEPS, "group_size": 4, "max_tokens": 24, "stop": ["e", "a"], "learning_rate": 1e-3, "threads": 1,
            "early_stopping": False, "unsafe_python_graders": True, **own,
        },
    }  # fmt: skip
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def command(job: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "pinetune", "run", str(job), "--out", str(out)]


def finish(job: Path, out: Path) -> None:
    done = subprocess.run(command(job, out), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rollouts(out: Path) -> list[object]:
    import polars as pl

    return [pl.read_parquet(path).drop(["grade_seconds"], strict=False).to_dicts() for path in sorted((out / "rollouts").glob("*.parquet"))]


def metrics(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps_seen(out: Path) -> list[int]:
    return [line["step"] for line in metrics(out)]


def checkpoint_events(out: Path) -> list[str]:
    events = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [event["message"] for event in events if event["message"].startswith("Checkpoint")]


def kill_at(job: Path, out: Path, step: int, delay: float) -> None:
    """Start the job, wait for `step` to be recorded, then SIGKILL its whole process group after `delay` seconds."""
    with (out.parent / "killed.log").open("ab") as log:
        process = subprocess.Popen(command(job, out), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while step not in steps_seen(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):  # on a busy machine the job may be faster than this look at it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_a_killed_job_ends_like_an_undisturbed_one(tmp_path: Path, lora: bool) -> None:
    from tiny_models import save_tiny

    model = save_tiny(tmp_path / "tiny")
    job = write_job(tmp_path, model, **({"lora": {"rank": 4, "alpha": 8}} if lora else {"lora": "off"}))
    finish(job, tmp_path / "whole")
    assert sum(line["trained_tokens"] > 0 for line in metrics(tmp_path / "whole") if line["step"]) >= STEPS - 2
    dice = random.Random(f"kill {lora}")
    for _ in range(3):
        kill_at(job, tmp_path / "killed", dice.randint(1, STEPS - 2), dice.uniform(0, 0.1))
    finish(job, tmp_path / "killed")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert rollouts(killed) == rollouts(whole)
    assert steps_seen(killed) == steps_seen(whole)
    assert checkpoint_events(killed) == checkpoint_events(whole)


@pytest.mark.slow
def test_the_same_job_runs_once_at_a_time(tmp_path: Path) -> None:
    from tiny_models import save_tiny

    from pinetune.runs.lock import locked

    job, out = write_job(tmp_path, save_tiny(tmp_path / "tiny")), tmp_path / "run"
    stopped = subprocess.run([*command(job, out), "--dry-run"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert stopped.returncode == 0 and not out.exists()
    finish(job, out)
    with locked(out):
        again = subprocess.run(command(job, out), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1 and "another process is running this job" in again.stderr
    finish(job, out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_writes_a_checkpoint_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    from tiny_models import save_tiny

    job, out = write_job(tmp_path, save_tiny(tmp_path / "tiny")), tmp_path / "run"
    process = subprocess.Popen(command(job, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    while 1 not in steps_seen(out) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, said
    assert "The same command goes on from there" in said
    stopped_at = max(steps_seen(out))
    assert (out / "checkpoints" / f"step-{stopped_at:05}" / "manifest.json").exists()
    finish(job, out)
    assert steps_seen(out) == list(range(STEPS + 1))
    finish(job, tmp_path / "whole")
    assert (out / "model" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model" / "model.safetensors").read_bytes()


def test_a_job_killed_while_it_began_can_begin_again(tmp_path: Path) -> None:
    from tiny_models import save_tiny

    from pinetune.loop.job import open_run, prepare

    job = write_job(tmp_path, save_tiny(tmp_path / "tiny"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "job.json.partial").write_text('{"bod')  # its first file was being written
    prepared = prepare(json.loads(job.read_text()), tmp_path)
    try:
        assert open_run(prepared, out).exists()
    finally:
        prepared.close()

"""Supervised and DPO jobs through the store, with real child processes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import messages, wait_for

from pinetune.store import DEFAULT_PROJECT, Job, NewJob, Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
OWN = {"threads": 1, "lora": "off", "learning_rate": 3e-3}


def create(store: Store, method: str, rows: list[Any], valid: list[Any]) -> Job:
    files = [
        store.files.create(DEFAULT_PROJECT, "fine-tune", "t.jsonl", "".join(json.dumps(r) + "\n" for r in some).encode())
        for some in (rows, valid)
    ]
    hyperparameters = {"n_epochs": 2, "batch_size": 2, **({"beta": 0.2} if method == "dpo" else {})}
    body = {
        "model": "tiny", "training_file": files[0].id, "validation_file": files[1].id, "pinetune": OWN,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
    }  # fmt: skip
    new = NewJob(DEFAULT_PROJECT, "tiny", method, body, files[0].id, 7, validation_file=files[1].id)
    return store.jobs.create(new)


def table(store: Store, job: Job) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(store.files.chunks(job.result_files[0])).decode())))


def test_a_supervised_job(store: Store, tiny: str, working: Callable[..., object]) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Say {w}."}, {"role": "assistant", "content": "The fox"}]} for w in "abcde"]
    job = create(store, "supervised", rows, rows[:2])
    working()
    done = wait_for(store, job, "succeeded", "failed")
    assert done.error is None
    assert done.hyperparameters == {"batch_size": 2, "learning_rate_multiplier": 1.0, "n_epochs": 2}
    lines = table(store, done)
    assert [line["step"] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(line["full_valid_loss"]) for line in lines] == [False, False, True, False, False, True]
    assert float(lines[-1]["full_valid_loss"]) < float(lines[2]["full_valid_loss"])
    said = [m for m in messages(store, job) if m.startswith("Step ")]
    assert [m.split(":")[0] for m in said] == [f"Step {n}/6" for n in range(7)]
    assert [c.step for c in store.checkpoints.list(job.id).items] == [6, 3]
    assert done.fine_tuned_model
    assert (store.folders.path(store.models.resolve(done.fine_tuned_model).location) / "config.json").is_file()


def test_a_dpo_job(store: Store, tiny: str, working: Callable[..., object]) -> None:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"Say {w}."}]},
            "preferred_output": [{"role": "assistant", "content": "The fox"}],
            "non_preferred_output": [{"role": "assistant", "content": "A dog"}],
        }
        for w in "abcd"
    ]
    job = create(store, "dpo", rows, rows[:2])
    working()
    done = wait_for(store, job, "succeeded", "failed")
    assert done.error is None
    assert done.hyperparameters == {"batch_size": 2, "learning_rate_multiplier": 1.0, "n_epochs": 2, "beta": 0.2}
    lines = table(store, done)
    assert float(lines[0]["train_loss"]) == pytest.approx(0.6931, abs=1e-3)  # log 2: nothing has moved yet
    assert float(lines[-1]["full_valid_loss"]) < 0.69
    assert float(lines[-1]["valid_reward_accuracy"]) == 1.0

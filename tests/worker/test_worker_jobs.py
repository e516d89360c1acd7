"""Whole jobs through the store, with real child processes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from conftest import messages, new_job, rows, wait_for

from pinetune.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_job_goes_from_upload_to_model(store: Store, tiny: str, working: Callable[..., object]) -> None:
    job = new_job(store)
    working()
    done = wait_for(store, job, "succeeded", "failed")
    assert done.error is None
    said = messages(store, job)
    assert said[0] == f"Created fine-tuning job: {job.id}"
    assert said[2:4] == ["Files validated, moving job to queued state", "Fine-tuning job started"]
    assert [m.split(" ,")[0] for m in said if m.startswith("Step ")] == ["Step 0/4", "Step 1/4", "Step 2/4", "Step 3/4", "Step 4/4"]
    assert [m for m in said if m.startswith("Checkpoint")] == ["Checkpoint created at step 2", "Checkpoint created at step 4"]
    assert said[-2:] == [f"New fine-tuned model created: {done.fine_tuned_model}", "The job has successfully completed"]
    assert done.fine_tuned_model is not None and done.fine_tuned_model.startswith("ft:tiny:pinetune:sfx:")
    assert done.hyperparameters == {
        "batch_size": 2, "learning_rate_multiplier": 1.0, "n_epochs": 2, "reasoning_effort": "default", "compute_multiplier": 1.0,
        "eval_interval": 2, "eval_samples": 1,
    }  # fmt: skip
    assert done.trained_tokens is not None and done.trained_tokens > 0
    [checkpoint_4, checkpoint_2] = store.checkpoints.list(job.id).items
    assert (checkpoint_4.step, checkpoint_2.step) == (4, 2)
    assert checkpoint_2.model == f"{done.fine_tuned_model}:ckpt-step-2"
    assert checkpoint_2.metrics["full_valid_mean_reward"] == checkpoint_2.metrics["valid_reward_mean"]
    for name in (done.fine_tuned_model, checkpoint_2.model):
        assert (store.folders.path(store.models.resolve(name).location) / "model.safetensors").is_file()
    [result] = done.result_files
    assert store.files.get(result).purpose == "fine-tune-results"
    table = list(csv.DictReader(io.StringIO(b"".join(store.files.chunks(result)).decode())))
    assert [line["step"] for line in table] == ["1", "2", "3", "4"]
    assert [bool(line["full_valid_mean_reward"]) for line in table] == [False, True, False, True]
    assert all(line["train_mean_reward"] == line["train_reward_mean"] != "" for line in table)
    event = next(event for event in store.events.since(job.id, 0) if event.message.startswith("Step 2/4"))
    assert event.type == "metrics" and event.data is not None
    assert event.data["scores"]["graders"] == [
        {"name": "like", "type": "text_similarity", **{k: event.data["scores"][k] for k in ("train_reward_mean", "valid_reward_mean")}}
    ]
    assert event.data["full_valid_mean_reward"] == event.data["scores"]["valid_reward_mean"]


def test_a_bad_row_fails_the_job_with_file_line_and_field(store: Store, tiny: str, working: Callable[..., object]) -> None:
    job = new_job(store, train=rows("ab") + b'{"messages": [{"role": "usr", "content": "x"}]}\n')
    working()
    done = wait_for(store, job, "failed", "queued", "running")
    assert done.status == "failed" and done.error is not None
    assert (done.error["code"], done.error["param"]) == ("invalid_training_file", "training_file")
    assert done.error["message"].startswith('my train.jsonl:3: messages[0].role: unknown role "usr"')
    assert messages(store, job)[-1] == done.error["message"]

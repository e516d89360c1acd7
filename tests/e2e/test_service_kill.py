"""kill -9 of the API, the worker, the job's child or all of them at random moments: the job ends as if nothing had happened.

PINETUNE_TEST_KILLS=20   how many times a job is disturbed (default 4)
PINETUNE_TEST_SEED       of the moments
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import Service, wait_until
from tiny_models import save_tiny

from pinetune.store import DEFAULT_PROJECT, Job, NewJob, Store

KILLS = int(os.environ.get("PINETUNE_TEST_KILLS", "4"))
SEED = os.environ.get("PINETUNE_TEST_SEED", "1")
STEPS = 20 + 8 * KILLS
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 120 * KILLS)]
GRADER = {
    "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
INTERRUPTIONS = ("The worker stopped", "The job's process was killed", "Fine-tuning job goes on")


def create(store: Store) -> Job:
    files = []
    for words, answer in (("abcdef", "The fox"), ("xy", "A dog")):
        rows = [{"messages": [{"role": "user", "content": f"Say {w}."}], "answer": f"{answer} {w}"} for w in words]
        files.append(store.files.create(DEFAULT_PROJECT, "fine-tune", "t.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode()).id)
    own = {
        "steps": STEPS,
        "group_size": 4,
        "max_tokens": 16,
        "stop": ["e", "a"],
        "learning_rate": 1e-3,
        "threads": 1,
        "early_stopping": False,
    }
    hyperparameters = {"batch_size": 3, "eval_interval": 2, "eval_samples": 1}
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": hyperparameters}}
    body = {"model": "tiny", "training_file": files[0], "validation_file": files[1], "method": method, "pinetune": own}
    return store.jobs.create(NewJob(DEFAULT_PROJECT, "tiny", "reinforcement", body, files[0], 7, validation_file=files[1]))


class Uploads(threading.Thread):
    """A client that goes on uploading whatever happens; `kept` is what the server acknowledged."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self.kept: dict[str, str] = {}
        self.end = threading.Event()
        self._service = service

    def run(self) -> None:
        number = 0
        while not self.end.wait(0.5):
            number += 1
            content = f'{{"number": {number}}}\n'.encode() * 2000
            try:
                reply = httpx.post(
                    f"{self._service.url}/files", files={"file": ("u.jsonl", content)}, data={"purpose": "fine-tune"}, timeout=30
                )
            except httpx.TransportError:
                continue
            if reply.status_code == 200:
                self.kept[reply.json()["id"]] = hashlib.sha256(content).hexdigest()


def disturb(service: Service, store: Store, job: Job, dice: random.Random) -> list[str]:
    """KILLS times; mostly some time after the job got further, sometimes right while things start. What was killed, and at which step."""
    done: list[str] = []
    hasty = 0
    while len(done) < KILLS:
        if hasty < 2 and dice.random() < 0.3:
            hasty += 1
            time.sleep(dice.uniform(0, 6))
        else:
            hasty, goal = 0, store.jobs.get(job.id).step + dice.randint(1, 7)
            wait_until(lambda goal=goal: (now := store.jobs.get(job.id)).step >= goal or now.is_final, 300)
            time.sleep(dice.uniform(0, 0.5))
        if store.jobs.get(job.id).is_final:
            break
        what = dice.choices(["child", "worker", "api", "all"], [8, 6, 5, 1])[0]
        killed = [one for one in (["api", "worker", "child"] if what == "all" else [what]) if service.kill(one)]
        if killed:
            done.append(f"{'+'.join(killed)} at step {store.jobs.get(job.id).step}")
        if "api" in killed:
            service.start()
    return done


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """A step's numbers without those of the clock."""
    return {k: v for k, v in row.items() if "seconds" not in k and "per_second" not in k and k != "timing"}


def story(store: Store, job: Job) -> dict[str, Any]:
    """All that a user sees of a job but times and ids."""
    events = store.events.since(job.id, 0, limit=10_000)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    job = store.jobs.get(job.id)
    files = [b"".join(store.files.chunks(id)).decode() for id in job.result_files]
    told = [event for event in events if not event.message.startswith(INTERRUPTIONS)]
    named = [job.id, job.tuned_name, job.training_file, str(job.validation_file)]
    texts = [event.message for event in told]
    for name in named:
        texts = [text.replace(name, "...") for text in texts]
    assert job.fine_tuned_model is not None
    folder = store.folders.path(store.models.resolve(job.fine_tuned_model).location)
    return {
        "status": job.status,
        "error": job.error,
        "steps": [text for text in texts if text.startswith("Step ")],
        "data": [numbers(event.data) for event in told if event.type == "metrics" and event.data],
        "checkpoints": [text for text in texts if text.startswith("Checkpoint ")],
        "others": sorted(text for text in texts if not text.startswith(("Step ", "Checkpoint "))),
        "kept": [(c.step, c.metrics) for c in store.checkpoints.list(job.id, limit=100).items],
        "metrics": [numbers(metric.data) for metric in store.events.metrics(job.id)],
        "table": [[numbers(line) for line in csv.DictReader(io.StringIO(text))] for text in files],
        "trained_tokens": job.trained_tokens,
        "weights": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }


def test_killed_at_random_moments(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    with service, service.store() as store:
        store.models.register("tiny", str(save_tiny(tmp_path / "tiny")))
        whole = create(store)
        wait_until(lambda: store.jobs.get(whole.id).is_final, 600)
        uploads = Uploads(service)
        uploads.start()
        job = create(store)
        killed = disturb(service, store, job, random.Random(SEED))
        print(f"\nkilled {len(killed)} times: {'; '.join(killed)}")
        wait_until(lambda: store.jobs.get(job.id).is_final, 600)
        uploads.end.set()
        uploads.join()
        assert len(killed) == KILLS, "the job was over too soon"
        ours, undisturbed = story(store, job), story(store, whole)
        for part, expected in undisturbed.items():
            assert ours[part] == expected, part
        assert uploads.kept
        for id, digest in uploads.kept.items():
            assert hashlib.sha256(b"".join(store.files.chunks(id))).hexdigest() == digest
        results = store.files.list(DEFAULT_PROJECT, purpose="fine-tune-results").items
        assert len(results) == 2

"""kill -9 of the API, the worker, the job's child or all of them at random moments: the job ends as if nothing had happened.

One job runs undisturbed; then the same job is run and killed at, as often as it takes to count KILLS kills of running jobs,
and each of these jobs must have ended like the first. A kill that came after a job's end does not count.

PINETUNE_TEST_KILLS   how many kills (default 20)
PINETUNE_TEST_SEED    of the moments and victims (default 1; it is printed)
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import Service, small_job, wait_until
from tiny_models import save_tiny

from pinetune.store import DEFAULT_PROJECT, Job, Store

KILLS = int(os.environ.get("PINETUNE_TEST_KILLS", "20"))
SEED = os.environ.get("PINETUNE_TEST_SEED", "1")
STEPS = 20
VICTIMS = ("child", "worker", "api", "child", "worker", "child", "api", "worker", "child", "all")  # again and again, shuffled
IN_A_ROW = 3  # kills without a new checkpoint between them; after five, a job is given up, and rightly
PATIENCE = 600  # seconds to wait for anything: only a lost job takes that long, however loaded the machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200 + 120 * KILLS)]
INTERRUPTIONS = ("The worker stopped", "The job's process was killed", "Fine-tuning job goes on")


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


class Disturber:
    """Kills what `deck` names, one after the other, until none is left; `done` tells what was killed, and at which step."""

    def __init__(self, service: Service, store: Store, seed: str) -> None:
        self._service, self._store, self._dice = service, store, random.Random(seed)
        self.deck = (list(VICTIMS) * KILLS)[:KILLS]
        self._dice.shuffle(self.deck)
        self.done: list[str] = []

    def disturb(self, job: Job) -> None:
        """Until the job's end, or the last kill."""
        in_a_row, reached = 0, self._checkpoint(job)
        while self.deck:
            if in_a_row < IN_A_ROW and self._dice.random() < 0.4:
                time.sleep(self._dice.uniform(0, 4))  # while things start, mostly
            else:
                self._wait_for_a_step(job)
            if in_a_row == IN_A_ROW:
                self._wait(job, lambda reached=reached: self._checkpoint(job) > reached)
            if (newest := self._checkpoint(job)) > reached:
                in_a_row, reached = 0, newest
            victims = ["api", "worker", "child"] if self.deck[-1] == "all" else [self.deck[-1]]
            self._wait(job, lambda victims=victims: all(self._service.pids(one) for one in victims))
            if self._is_over(job):
                return
            killed = [one for one in victims if self._service.kill(one)]
            if not self._is_over(job) and killed:
                in_a_row += 1
                self.deck.pop()
                now = self._store.jobs.get(job.id)
                self.done.append(f"{'+'.join(killed)} at step {now.step} ({now.status})")
            if "api" in killed:
                self._service.start(PATIENCE)

    def _wait_for_a_step(self, job: Job) -> None:
        goal = self._store.jobs.get(job.id).step + self._dice.randint(1, 4)
        self._wait(job, lambda: self._store.jobs.get(job.id).step >= min(goal, STEPS))
        time.sleep(self._dice.uniform(0, 0.5))

    def _wait(self, job: Job, look: Callable[[], bool]) -> None:
        """Until it is as wanted, or the job is over."""
        wait_until(lambda: look() or self._is_over(job), PATIENCE)

    def _is_over(self, job: Job) -> bool:
        return self._store.jobs.get(job.id).is_final

    def _checkpoint(self, job: Job) -> int:
        """The newest that the store knows."""
        newest = self._store.checkpoints.latest(job.id)
        return -1 if newest is None else newest.step


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
        whole = small_job(store, STEPS)
        wait_until(lambda: store.jobs.get(whole.id).is_final, PATIENCE)
        undisturbed = story(store, whole)
        uploads, disturber, jobs = Uploads(service), Disturber(service, store, SEED), []
        uploads.start()
        while disturber.deck:
            jobs.append(small_job(store, STEPS))
            disturber.disturb(jobs[-1])
            print(f"\nseed {SEED}, job {len(jobs)}, kills so far: {'; '.join(disturber.done)}")
        wait_until(lambda: all(store.jobs.get(job.id).is_final for job in jobs), PATIENCE)
        uploads.end.set()
        uploads.join()
        assert len(disturber.done) == KILLS
        for job in jobs:
            ours = story(store, job)
            for part, expected in undisturbed.items():
                assert ours[part] == expected, part
        assert uploads.kept
        for id, digest in uploads.kept.items():
            assert hashlib.sha256(b"".join(store.files.chunks(id))).hexdigest() == digest
        results = store.files.list(DEFAULT_PROJECT, purpose="fine-tune-results").items
        assert len(results) == 1 + len(jobs)

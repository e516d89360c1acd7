"""A store on a real database file, a tiny model, a small job: what the worker's tests start from."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, Job, NewJob, Store
from pinetune.worker.folder import JobFolder

GRADER = {
    "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
OWN = {
    "steps": 4,
    "group_size": 4,
    "max_tokens": 16,
    "stop": ["e", "a"],
    "learning_rate": 1e-3,
    "threads": 1,
    "early_stopping": False,
    "lora": "off",
}
PATIENCE = 600.0  # seconds for anything: a busy machine must not decide what passes
HYPERPARAMETERS = {"batch_size": 2, "eval_interval": 2, "eval_samples": 1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({}, home=tmp_path / "home", busy_seconds=5)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings) as opened:
        yield opened


def rows(words: str, answer: str = "The fox") -> bytes:
    return b"".join(
        json.dumps({"messages": [{"role": "user", "content": f"Say {w}."}], "answer": f"{answer} {w}"}).encode() + b"\n" for w in words
    )


def new_job(store: Store, **changes: Any) -> Job:
    """A reinforcement job of four steps on the model registered as "tiny"; `own` and `hyperparameters` change a part of its body."""
    own = {**OWN, **changes.pop("own", {})}
    hyperparameters = {**HYPERPARAMETERS, **changes.pop("hyperparameters", {})}
    train = store.files.create(DEFAULT_PROJECT, "fine-tune", "my train.jsonl", changes.pop("train", rows("abcd")))
    valid = store.files.create(DEFAULT_PROJECT, "fine-tune", "my valid.jsonl", changes.pop("valid", rows("xy", "A dog")))
    model = changes.pop("model", "tiny")
    body = {
        "model": model, "training_file": train.id, "validation_file": valid.id, "suffix": "sfx", "pinetune": own,
        "method": {"type": "reinforcement", "reinforcement": {"grader": changes.pop("grader", GRADER), "hyperparameters": hyperparameters}},
    }  # fmt: skip
    fields = {"project": DEFAULT_PROJECT, "model": model, "method": "reinforcement", "body": body, "training_file": train.id}
    return store.jobs.create(NewJob(**{**fields, "validation_file": valid.id, "seed": 7, "suffix": "sfx", **changes}))


@pytest.fixture
def tiny(store: Store, tmp_path: Path) -> str:
    """The tiny model, registered."""
    from tiny_models import save_tiny

    store.models.register("tiny", str(save_tiny(tmp_path / "tiny")))
    return "tiny"


@pytest.fixture
def working(settings: Settings) -> Iterator[Callable[..., threading.Event]]:
    """Start workers in this process; each ends with the test. Gives the event that ends it."""
    from pinetune.worker.run import Pace, run_worker

    started: list[tuple[threading.Event, threading.Thread]] = []

    def start(**options: Any) -> threading.Event:
        stopping = threading.Event()
        given = {"pace": Pace(lease=60.0, idle=0.05, grace=30.0), **options}
        thread = threading.Thread(target=run_worker, args=(settings, stopping), kwargs=given)
        thread.start()
        started.append((stopping, thread))
        return stopping

    yield start
    for stopping, _ in started:
        stopping.set()
    for _, thread in started:
        thread.join(PATIENCE)


def wait_for(store: Store, job: Job, *states: str, seconds: float = PATIENCE) -> Job:
    return wait_until(lambda: found if (found := store.jobs.get(job.id)).status in states else None, seconds)


def wait_until(look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def steps_told(store: Store, job: Job) -> list[str]:
    """What was told of training. A step paused before its evaluation is told again with the evaluation alone, once that is done."""
    trained = (m for m in messages(store, job) if m.startswith("Step ") and ("train mean" in m or m.startswith("Step 0/")))
    return [m.split(" ,")[0] for m in trained]


def child_of(settings: Settings, job: Job) -> int:
    """The process that works in the job's folder."""
    folder = str(JobFolder.of(settings.home, job.id).path)
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        if "pinetune.worker.child" in words and folder in words:
            return int(entry.name)
    return 0


def messages(store: Store, job: Job) -> list[str]:
    return [event.message for event in store.events.since(job.id, 0)]

"""For tests of the API: a live server with a store of its own, clients to ask it, and a worker that only moves jobs through states."""

from __future__ import annotations

import atexit
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from openai import OpenAI
from openai.types import FileObject

from pinetune.api.app import create_app
from pinetune.settings import Settings
from pinetune.store import Lease, NewEvent, NewModel, Store

PATIENCE = 200.0  # seconds a request may take before a test fails: a busy machine must not decide what passes
TEMPLATE = Path(tempfile.mkdtemp(prefix="pinetune-tests-"))
atexit.register(shutil.rmtree, TEMPLATE, ignore_errors=True)
ROWS = [{"messages": [{"role": "user", "content": f"Say {i}."}], "reference_answer": str(i)} for i in range(12)]
GRADER = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference_answer}}",
    "operation": "eq",
}


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of `app`, served by uvicorn in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:  # from here on the port is nobody else's
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def connect(url: str, key: str = "none", *, strict: bool = True) -> OpenAI:
    """Strict: every reply is validated against the client's own types when it arrives.

    Those types know neither the purpose `evals`, nor the status `paused`, nor a multi grader's dict, all of which the hosted
    API sends; tests of these are lenient, as users' scripts are.
    """
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=PATIENCE, _strict_response_validation=strict)


@dataclass(frozen=True)
class Service:
    url: str
    store: Store
    settings: Settings

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/v1", **{"timeout": PATIENCE, **options})


def prepare(home: Path) -> None:
    """A migrated database to begin with, made once: migrations take most of a second."""
    if (home / "pinetune.db").exists():
        return
    made = TEMPLATE / "pinetune.db"
    if not made.exists():
        Store.open(Settings.read({}, home=TEMPLATE)).close()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, home / "pinetune.db")


@contextmanager
def service_on(home: Path, serving_url: str | None = None, serving_secret: str | None = None, **flags: Any) -> Iterator[Service]:
    settings = Settings.read({}, home=home, **flags)
    prepare(home)
    with Store.open(settings) as store, listening(create_app(settings, store, serving_url, serving_secret=serving_secret)) as url:
        yield Service(url, store, settings)


def upload_rows(client: OpenAI, rows: list[dict[str, Any]] = ROWS, name: str = "train.jsonl") -> FileObject:
    return client.files.create(file=(name, "\n".join(json.dumps(row) for row in rows).encode()), purpose="fine-tune")


def job_body(file: str, **changes: Any) -> dict[str, Any]:
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    return {"model": "pinetune-mini", "training_file": file, "validation_file": file, "method": method, **changes}


class FakeWorker:
    """Takes one job and moves it by the store's public verbs, as a real one does."""

    def __init__(self, store: Store, job_id: str, folder: Path) -> None:
        self.store, self.job_id, self.folder = store, job_id, folder
        self.lease = self._claim()

    def _claim(self) -> Lease:
        for _ in range(100):
            claimed = self.store.leases.claim("fake", 600)
            assert claimed is not None, f"{self.job_id} is not waiting"
            if claimed[0].id == self.job_id:
                return claimed[1]
        raise AssertionError(f"{self.job_id} never came")

    def start(self) -> None:
        """From validating_files to running."""
        self.store.jobs.validated(self.lease)
        self.lease = self._claim()
        hyper = {
            "batch_size": 8,
            "n_epochs": 2,
            "learning_rate_multiplier": 1.0,
            "compute_multiplier": 1.0,
            "eval_interval": 5,
            "eval_samples": 3,
        }
        self.store.jobs.update(self.lease, hyperparameters=hyper, estimated_finish=2e9, folder=str(self.folder))

    def step(self, number: int, reward: float = 0.5) -> None:
        data = {"step": number, "total_steps": 10, "train_reward_mean": reward, "train_mean_reward": reward}
        message = f"Step {number}/10 , train mean reward={reward}"
        self.store.events.append(self.lease, [NewEvent(message, type="metrics", data=data, key=f"step-{number}")])

    def checkpoint(self, number: int) -> str:
        model = NewModel("full", str(self.folder / f"step-{number}"))
        return self.store.checkpoints.add(self.lease, number, model, {"train_mean_reward": 0.5, "full_valid_mean_reward": 0.4}).model

    def pause(self) -> None:
        self.store.jobs.paused(self.lease)

    def resume(self) -> None:
        self.lease = self._claim()

    def succeed(self, result: bytes = b"step,train_mean_reward\n1,0.5\n") -> None:
        project = self.store.jobs.get(self.job_id).project
        file = self.store.files.create(project, "fine-tune-results", "step_metrics.csv", result)
        self.store.jobs.succeed(self.lease, NewModel("full", str(self.folder / "model")), 4321, [file.id])

"""`pinetune serve` as a process of its own, on a free port and a home of its own, to be asked, killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, Job, NewJob, Store

GRADER = {
    "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
PATIENCE = 600.0  # seconds for anything: a busy machine must not decide what passes


def free_port() -> int:
    """Outside of the range from which the system serves those who ask for any port: it stays free while the server is restarted."""
    while True:
        port = random.SystemRandom().randint(10_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Service:
    """Started with `start`; `log` keeps what all its processes print."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.log = home.parent / "service.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, seconds: float = PATIENCE) -> None:
        command = [sys.executable, "-m", "pinetune", "serve", "--home", str(self.home), "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self._environment}, start_new_session=True
            )  # fmt: skip
        wait_until(self.answers, seconds)

    def answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url[:-3]}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, seconds: float = PATIENCE) -> int:
        """Politely; the exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        finally:
            self.kill_all()

    def kill(self, what: str) -> bool:
        """SIGKILL the "api" (which is the supervisor, too), the "worker", the "child" or the "serving"; whether it was there."""
        found = self.pids(what)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if what == "api" and self._process is not None:
            self._process.wait()
        return bool(found)

    def kill_all(self) -> None:
        for what in ("api", "worker", "serving", "child"):
            self.kill(what)

    def pids(self, what: str) -> list[int]:
        if what == "api":
            return [self._process.pid] if self._process is not None and self._process.poll() is None else []
        wanted = {"worker": ["pinetune", "worker"], "serving": ["pinetune", "serving"], "child": ["pinetune.worker.child"]}[what]
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry.name)
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                home = f"PINETUNE_HOME={self.home}".encode()
                if all(word in words for word in wanted) and home in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def store(self) -> Store:
        """Beside the server's own; to be closed."""
        return Store.open(Settings.read(self._environment, home=self.home))


def small_job(store: Store, steps: int) -> Job:
    """A reinforcement job on the model registered as "tiny": six rows and two held-out ones, judged every second step."""
    files = []
    for words, answer in (("abcdef", "The fox"), ("xy", "A dog")):
        rows = [{"messages": [{"role": "user", "content": f"Say {w}."}], "answer": f"{answer} {w}"} for w in words]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        files.append(store.files.create(DEFAULT_PROJECT, "fine-tune", "t.jsonl", content).id)
    own = {
        "steps": steps, "group_size": 4, "max_tokens": 16, "stop": ["e", "a"], "learning_rate": 1e-3, "threads": 1, "early_stopping": False,
    }  # fmt: skip
    hyperparameters = {"batch_size": 3, "eval_interval": 2, "eval_samples": 1}
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": hyperparameters}}
    body = {"model": "tiny", "training_file": files[0], "validation_file": files[1], "method": method, "pinetune": own}
    return store.jobs.create(NewJob(DEFAULT_PROJECT, "tiny", "reinforcement", body, files[0], 7, validation_file=files[1]))


def wait_until(look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")

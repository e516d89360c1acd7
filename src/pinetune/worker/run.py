"""The worker's loops: one checks new jobs, so that a bad file is told at once; one trains; one works on runs of evals."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pinetune.errors import LeaseLost, MoveRefused, NotFound, StoreError
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.worker.alive import living, mourn
from pinetune.worker.eval_runs import EvalRunner
from pinetune.worker.failures import describe
from pinetune.worker.session import Session, Stopped
from pinetune.worker.training import train
from pinetune.worker.validation import validate
from pinetune.worker.warm import Warm

log = logging.getLogger("pinetune.worker")


def worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. A worker that vanishes is missed after `lease`; told to end, it lets the step in flight take `grace`."""

    lease: float = 30.0
    idle: float = 1.0  # between looks for work
    grace: float = 60.0


@dataclass(slots=True)
class Worker:
    """One process's."""

    store: Store
    settings: Settings
    stopping: threading.Event
    name: str = field(default_factory=worker_name)
    pace: Pace = field(default_factory=Pace)
    warm: Warm = field(default_factory=Warm)

    def run(self) -> None:
        """Until `stopping` is set; a running job is then checkpointed and goes back to the queue."""
        threads = [threading.Thread(target=loop) for loop in (self._check, self._train, self._evaluate)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.warm.take("")

    def _check(self) -> None:
        while not self.stopping.is_set():
            if not self._one("validating_files", validate):
                self.stopping.wait(self.pace.idle)

    def _train(self) -> None:
        while not self.stopping.is_set():
            if not self._one("queued", train):
                self.warm.wanted.set()
                self.warm.forget_old()
                self.stopping.wait(self.pace.idle)

    def _evaluate(self) -> None:
        """Beside the job that trains: runs of evals mostly wait for models and judges that answer elsewhere."""
        runner = EvalRunner(self.store, self.settings, self.name, self.stopping, lease_seconds=self.pace.lease)
        while not self.stopping.is_set():
            if not runner.one():
                self.stopping.wait(self.pace.idle)

    def _one(self, state: str, work: Callable[[Session], None]) -> bool:
        """Take one job that waits in `state` to wherever it gets; False when none waits."""
        try:
            self.store.leases.expire()
            claimed = self.store.leases.claim(self.name, self.pace.lease, (state,))
        except StoreError as error:
            log.warning("no claim: %s", error)
            return False
        if claimed is None:
            return False
        if state == "queued":
            self.warm.wanted.clear()
        job, lease = claimed
        log.info("%s: %s", job.id, job.status)
        pace = self.pace
        with Session(
            self.store, self.settings.home, job, lease, self.stopping, self.warm, lease_seconds=pace.lease, grace=pace.grace
        ) as session:  # fmt: skip
            try:
                work(session)
            except (LeaseLost, MoveRefused, NotFound) as lost:
                log.info("%s", lost)
            except Stopped:
                _quietly(session.insist, self.store.jobs.release, lease)
            except Exception as error:
                log.exception("%s", job.id)
                _quietly(session.fail, describe(error, {}))
        return True


def run_worker(settings: Settings, stopping: threading.Event, *, name: str | None = None, pace: Pace | None = None) -> None:
    """Open the store and work until `stopping` is set. Raises StoreError when the store cannot be opened."""
    name = name or worker_name()
    with Store.open(settings) as store, living(settings.home, name):
        mourn(settings.home, store.abandon)
        Worker(store, settings, stopping, name, pace or Pace()).run()


def _quietly(call: Callable[..., object], *args: object) -> None:
    try:
        call(*args)
    except StoreError as error:  # the lease is lost, or will run out
        log.warning("%s", error)

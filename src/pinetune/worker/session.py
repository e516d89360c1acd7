"""What checking and training a claimed job have in common: the lease, the child, a store that may say "later"."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from pinetune.errors import LeaseLost, MoveRefused, NotFound, PinetuneError, StoreError, TooLarge
from pinetune.store import Job, Lease, Store
from pinetune.worker.failures import describe
from pinetune.worker.folder import JobFolder
from pinetune.worker.handover import Handover
from pinetune.worker.heartbeat import Heartbeat
from pinetune.worker.materialize import materialize
from pinetune.worker.process import Child, Word
from pinetune.worker.warm import Warm

log = logging.getLogger("pinetune.worker")
P = ParamSpec("P")
T = TypeVar("T")
TICK = 0.5  # seconds between looks at the folder and at the job's row
FINAL_ANSWERS = (LeaseLost, NotFound, MoveRefused, TooLarge)  # other errors of the store pass: locked, full, unreachable


class Stopped(PinetuneError):
    """The worker is told to end; the job goes back."""


class Session:
    """One claim, as a context: leaving it ends the child and the renewing of the lease.

    `stopping` is set when the worker is told to end; `grace` is how many seconds the step in flight may then still take.
    """

    def __init__(
        self, store: Store, home: Path, job: Job, lease: Lease, stopping: threading.Event, warm: Warm, *, lease_seconds: float, grace: float
    ) -> None:
        self.store, self.job, self.lease, self.stopping, self.warm, self.grace = store, job, lease, stopping, warm, grace
        self.folder = JobFolder.of(home, job.id)
        self.handover = Handover(store, lease, job, self.folder, home)
        self._heart = Heartbeat(store, lease, lease_seconds)
        self._child: Child | None = None
        self._looked = 0.0
        self._pause_requested = False

    def __enter__(self) -> Session:
        self._heart.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            self._child.kill()
        self.handover.close()
        self._heart.__exit__(kind, error, trace)

    def start(self, mode: Literal["check", "run"] = "run") -> tuple[Child, Word | None]:
        """A child, and what it said when it had checked the job if it is a warm one; the child before is gone for certain."""
        if self._child is not None:
            self._child.kill()
        warm = self.warm.take(self.job.id)
        self._child = warm[0] if warm else self.insist(Child, self.folder, mode)
        return self._child, warm[1] if warm else None

    def keep_warm(self, checked: Word) -> None:
        """Leave the child, which has checked the job, to whoever trains it, if that may be here and soon."""
        if self._child is not None and self.warm.keep(self.job.id, self._child, checked):
            self._child = None

    def ready(self) -> bool:
        """Fill the work folder. False: the job could not even be put together, and failed."""
        try:
            self.insist(materialize, self.store, self.job, self.folder)
        except LeaseLost:
            raise
        except PinetuneError as error:
            self.fail(describe(error, {}))
            return False
        return True

    def pause_requested(self) -> bool:
        """Looked up at most once a tick. Raises LeaseLost as soon as the job is somebody else's, cancelled or ended."""
        if self._heart.lost.is_set():
            raise LeaseLost(f"{self.lease.worker} no longer holds {self.job.id}")
        if time.monotonic() - self._looked > TICK:
            self._looked = time.monotonic()
            try:
                job = self.store.jobs.get(self.job.id)
            except NotFound:
                raise
            except StoreError as error:
                log.warning("%s: %s", self.job.id, error)
                return self._pause_requested
            if job.worker != self.lease.worker:
                raise LeaseLost(f"{self.lease.worker} no longer holds {self.job.id}, which is {job.status}")
            self._pause_requested = job.pause_requested
        return self._pause_requested

    def insist(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(...)`, again while the store is locked, full or away: what a job did must not be lost for that. Raises LeaseLost."""
        wait = 0.2
        while True:
            try:
                return call(*args, **kwargs)
            except FINAL_ANSWERS:
                raise
            except StoreError as error:
                if self._heart.lost.is_set():
                    raise LeaseLost(f"{self.job.id}: {error}") from error
                log.warning("%s: %s; trying again in %.1f s", self.job.id, error, wait)
            time.sleep(wait)
            wait = min(10.0, 2 * wait)

    def fail(self, error: Mapping[str, Any]) -> None:
        code, message = str(error["code"]), str(error["message"])[:4000]
        self.insist(self.store.jobs.fail, self.lease, code, message, error.get("param"))

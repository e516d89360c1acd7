"""Warm workers of one python grader, shared by all threads that grade: one more is started while all are busy."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

from pinetune.sandbox.levels import Level
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.process import Outcome, WarmWorker, WorkerLost


class WarmPool:
    """`call` may be used from many threads at once; at most `size` workers (default: one a core, at most 8) run."""

    def __init__(self, source: str, level: Level, limits: Limits | None = None, size: int | None = None) -> None:
        self.level, self._source, self._limits = level, source, limits or Limits()
        self._slots = threading.BoundedSemaphore(size or min(8, os.cpu_count() or 1))
        self._lock = threading.Lock()
        self._idle: list[WarmWorker] = []
        self._busy: set[WarmWorker] = set()
        self._load_error = ""
        self._closed = False

    def call(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> Outcome:
        """One grade. A worker that is lost is replaced and the call tried once more; then it is the grader's error.

        Never raises: what could not be graded is an Outcome with an error.
        """
        try:
            request = json.dumps({"sample": sample, "item": item}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return Outcome(None, f"the sample or item is no JSON: {error}", "server")
        if len(request) > self._limits.request_bytes:
            return Outcome(None, f"sample and item are {len(request)} bytes of JSON, more than {self._limits.request_bytes}", "server")
        with self._slots:
            outcome = self._attempt(request)
            return self._attempt(request, last=True) if outcome is None else outcome  # type: ignore[return-value]

    def warm(self) -> Outcome | None:
        """Start one worker now; the load error as an Outcome, or None where the source loaded."""
        with self._slots:
            try:
                worker = self._take()
            except WorkerLost as lost:
                return Outcome(None, str(lost), "server")
            if isinstance(worker, Outcome):
                return worker
            self._give_back(worker)
            return None

    def _attempt(self, request: bytes, *, last: bool = False) -> Outcome | None:
        """None: the worker was lost and another one may be tried."""
        worker: WarmWorker | Outcome | None = None
        try:
            worker = self._take()
            if isinstance(worker, Outcome):
                return worker
            outcome = worker.call(request)
        except WorkerLost as lost:
            if isinstance(worker, WarmWorker):
                self._drop(worker)
            if not last:
                return None
            return Outcome(None, str(lost), "runtime" if isinstance(worker, WarmWorker) else "server")
        if not outcome.worn:
            self._give_back(worker)
            return outcome
        self._drop(worker)
        return None if outcome.kind == "server" and not last else outcome

    def _take(self) -> WarmWorker | Outcome:
        with self._lock:
            if self._closed:
                return Outcome(None, "the grader was closed", "server")
            if self._load_error:
                return Outcome(None, self._load_error, "runtime")
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker
        try:
            worker = WarmWorker(self._source, self.level, self._limits)
        except OSError as error:
            raise WorkerLost(f"the grader's interpreter could not be started: {error}") from None
        with self._lock:
            if worker.load_error:
                # Its top level fails the same way each time: the answer stands, no interpreter is started for it again.
                self._load_error = worker.load_error
                return Outcome(None, worker.load_error, "runtime")
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: WarmWorker) -> None:
        with self._lock:
            self._busy.discard(worker)
            if not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def _drop(self, worker: WarmWorker) -> None:
        with self._lock:
            self._busy.discard(worker)
        worker.close()

    def close(self) -> None:
        """End all workers, also those in a call."""
        with self._lock:
            self._closed = True
            idle, busy = self._idle, list(self._busy)
            self._idle = []
        for worker in idle:
            worker.close()
        for worker in busy:  # the thread that is in the call closes it
            worker.kill()

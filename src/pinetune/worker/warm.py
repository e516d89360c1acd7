"""A child that has checked its job, kept until the same worker may train it: the model need not be loaded twice."""

from __future__ import annotations

import threading
import time

from pinetune.worker.process import Child, Word

KEEP_SECONDS = 15.0  # then its job went to another worker, or was cancelled


class Warm:
    """At most one child. The checking loop puts it here while the training loop has nothing to do; so no two models are held for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[str, Child, Word, float] | None = None
        self.wanted = threading.Event()  # set while the training loop waits for work

    def keep(self, job_id: str, child: Child, checked: Word) -> bool:
        """False: not wanted now, and the child is still the caller's to end."""
        with self._lock:
            if not self.wanted.is_set() or self._kept is not None:
                return False
            self._kept = (job_id, child, checked, time.monotonic())
            return True

    def take(self, job_id: str) -> tuple[Child, Word] | None:
        """The child of this job and what it said, if it is here and alive; a child of another job is ended."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None:
            return None
        if kept[0] == job_id and kept[1].gone() is None:
            return kept[1], kept[2]
        kept[1].kill()
        return None

    def forget_old(self, seconds: float = KEEP_SECONDS) -> None:
        with self._lock:
            old = self._kept is not None and time.monotonic() - self._kept[3] >= seconds
        if old:
            self.take("")

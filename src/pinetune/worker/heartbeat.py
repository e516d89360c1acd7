"""Keeps a lease alive from a thread of its own, and says when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from pinetune.errors import StoreError
from pinetune.store import Lease, Store

log = logging.getLogger("pinetune.worker")


class Heartbeat:
    """`lost` is set when the job went to somebody else, or when the store did not answer for as long as the lease held."""

    def __init__(self, store: Store, lease: Lease, seconds: float) -> None:
        self._store, self._lease, self._seconds = store, lease, seconds
        self.lost = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(timeout=self._seconds)

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._end.wait(self._seconds / 4):
            try:
                if not self._store.leases.renew(self._lease, self._seconds):
                    self.lost.set()
                    return
                renewed = time.monotonic()
            except StoreError as error:
                log.warning("lease of %s not renewed: %s", self._lease.id, error)
                if time.monotonic() - renewed > 0.9 * self._seconds:  # another worker may hold the job a moment from now
                    self.lost.set()
                    return

"""`pinetune worker`: works on queued jobs until it is told to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pinetune.settings import Settings


def worker_command(home: Path | None, name: str | None, supervised: bool) -> None:
    """Ctrl-C or SIGTERM: the running job is checkpointed and goes back to the queue. A second one ends it at once."""
    from pinetune.api.logs import configure
    from pinetune.worker.run import run_worker

    configure()
    settings = Settings.read(home=home)
    # A job's process and its judges find the same home and store, also where --home named it.
    os.environ |= {
        "PINETUNE_HOME": str(settings.home),
        "PINETUNE_DATABASE_URL": settings.database_url,
        "PINETUNE_FILES_URL": settings.files_url,
    }
    stopping = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    if supervised:
        stop_with_parent(stopping.set)
    run_worker(settings, stopping, name=name)


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when standard input closes, as it does with the death of the process that started this one."""

    def wait() -> None:
        while os.read(0, 4096):  # not sys.stdin: a thread inside its lock would break the interpreter's end
            pass
        stop()

    threading.Thread(target=wait, daemon=True).start()

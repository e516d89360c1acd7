"""The child process from the worker's side: start, tell, hear, end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import IO, Any, Literal

from pinetune.worker.folder import JobFolder, plainly

Word = dict[str, Any]  # what the child says: {"said": "checked" | "recorded" | "finishing" | "finished" | "stopped" | "failed", ...}


class Child:
    """Running from the start. Closing its input (as the worker's death does) ends it at once."""

    def __init__(self, folder: JobFolder, mode: Literal["check", "run"]) -> None:
        with plainly():
            log = folder.log_file.open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pinetune.worker.child", mode, str(folder.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.folder = folder
        self._words: queue.Queue[Word | None] = queue.Queue()
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self, seconds: float) -> Word | None:
        """The next word, or None when none came in time or the child is gone (see `gone`)."""
        try:
            return self._words.get(timeout=seconds)
        except queue.Empty:
            return None

    def gone(self) -> int | None:
        """The exit status once the child has ended and its last word was heard; negative = killed by that signal."""
        if self._reader.is_alive() or not self._words.empty():
            return None
        return self._process.wait()

    def tell(self, order: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile; `gone` says how
            assert self._process.stdin is not None
            self._process.stdin.write(f"{order}\n".encode())
            self._process.stdin.flush()

    def kill(self) -> None:
        """At once, with whatever it started. What it had saved is whole."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            with contextlib.suppress(ValueError):
                self._words.put(json.loads(line))
        self._words.put(None)


def died(status: int, folder: JobFolder) -> str:
    """Why a child ended without a last word; the first line says how, the others are what it wrote last."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"The job's process was killed ({name}{hint})"
    # Lines of a traceback that name files of this machine are left out; what was raised stands unindented.
    said = [line for line in folder.log_tail(40).splitlines() if line and not line.startswith((" ", "Traceback"))]
    return "\n".join([f"The job's process ended with status {status}", *said[-5:]])

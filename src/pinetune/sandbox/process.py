"""The host's end of one warm worker: start it, hand it calls within a deadline, stop it and all it started."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pinetune.sandbox import seccomp
from pinetune.sandbox.levels import ENVIRONMENT, Level
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.packages import early_imports
from pinetune.sandbox.view import first_user_id
from pinetune.sandbox.worker import HEADER

MAX_ANSWER_BYTES = 1 << 20
GRACE_SECONDS = 5.0  # the worker ends a call at its time limit itself and stays warm; only a worker that fails to is killed
START_SECONDS = 30.0  # on top of the limit, for the interpreter itself to start on a busy machine
CORES = 2

# bwrap's --die-with-parent means the parent *thread*: workers started by a grading thread would die with it.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pinetune-sandbox")
# User ids for workers started by root; each counts its processes alone.
_USER_IDS = itertools.count(first_user_id())


# Which cores the next worker runs on: neighbours share as few as there are.
_TURNS = itertools.count()


class WorkerLost(Exception):
    """The worker died or broke the protocol; the message says how."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave: a value, or an error of the grader ("runtime") or of the machinery ("server")."""

    value: float | None
    error: str = ""
    kind: Literal["", "runtime", "server"] = ""
    printed: str = ""
    worn: bool = False  # the interpreter must not serve another call


class WarmWorker:
    """A worker process that has executed `source`. Serves one call at a time; `call` is not thread-safe."""

    def __init__(self, source: str, level: Level, limits: Limits) -> None:
        self._limits = limits
        uid = next(_USER_IDS) if level.private and os.getuid() == 0 else 0
        fields = ("wall_seconds", "memory_bytes", "disk_bytes", "processes", "open_files", "printed_chars")
        refused = seccomp.program() if level.private else None
        config = {name: getattr(limits, name) for name in fields} | {"private": level.private, "uid": uid}
        config |= {"cores": CORES if level.private else 0, "turn": next(_TURNS)}
        config["filter"] = refused.hex() if refused else ""
        # What bwrap or the starting interpreter complain of; the worker lets go of it before the source runs.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        self._process = _STARTER.submit(self._start, level.command(config, limits)).result()
        self.load_error = ""
        try:
            deadline = time.monotonic() + START_SECONDS + limits.wall_seconds
            self._send(json.dumps({"source": source, "early": early_imports(source)}).encode(), deadline)
            answer = self._receive(deadline)
        except WorkerLost as lost:
            said = self._said()
            self.close()
            raise WorkerLost(f"{lost} while loading the source{said}") from None
        if not answer.get("ready"):
            self.load_error = plain(str(answer.get("error", "the source could not be loaded")))
            self.close()

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for the training, which then ends us
            bufsize=0,
        )
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def call(self, request: bytes) -> Outcome:
        """Grade one answer; raises WorkerLost where the worker is of no use any more."""
        deadline = time.monotonic() + self._limits.wall_seconds + GRACE_SECONDS
        self._send(request, deadline)
        answer = self._receive(deadline)
        # The grader could have sent any of this itself: nothing but a finite number is a grade.
        printed = plain(str(answer.get("printed", "")))[: self._limits.printed_chars]
        value, worn = answer.get("value"), bool(answer.get("worn"))
        if isinstance(value, float) and math.isfinite(value):
            return Outcome(value, printed=printed, worn=worn)
        kind: Literal["runtime", "server"] = "server" if answer.get("kind") == "server" else "runtime"
        return Outcome(None, plain(str(answer.get("error", "no result"))), kind, printed, worn)

    def kill(self) -> None:
        """End the worker and everything it started; in a process namespace of its own nothing can stay.

        A thread that waits in `call` gets WorkerLost. May be called from any thread.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill, then let go of the pipes: only for the thread that uses the worker."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._complaints.close()

    def _send(self, body: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        data = memoryview(HEADER.pack(len(body)) + body)
        while data:
            self._ready(fd, select.POLLOUT, deadline)
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise WorkerLost(f"the grader's interpreter is gone ({error.strerror})") from None

    def _receive(self, deadline: float) -> dict[str, Any]:
        size = HEADER.unpack(self._read(HEADER.size, deadline))[0]
        if size > MAX_ANSWER_BYTES:
            raise WorkerLost(f"the grader's interpreter sent {size} bytes, more than an answer can have")
        try:
            answer = json.loads(self._read(size, deadline))
        except (ValueError, RecursionError):
            raise WorkerLost("the grader's interpreter sent something that is no answer") from None
        if not isinstance(answer, dict):
            raise WorkerLost("the grader's interpreter sent something that is no answer")
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = b""
        while len(data) < size:
            self._ready(fd, select.POLLIN, deadline)
            try:
                part = os.read(fd, size - len(data))
            except BlockingIOError:
                continue
            if not part:
                raise WorkerLost("the grader's interpreter ended")
            data += part
        return data

    def _ready(self, fd: int, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(fd, event)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise WorkerLost(f"TimeoutError: the grader's interpreter gave no answer in {self._limits.wall_seconds:g} seconds")

    def _said(self) -> str:
        self._complaints.seek(0)
        text = self._complaints.read(2_000).decode(errors="replace").strip()
        return f": {text}" if text else ""


def plain(text: str) -> str:
    """As text that files and databases take: half surrogate pairs and null characters written out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")

"""Keeps the programs of a server running: restarts what dies, more patiently each time, and ends all of them together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

log = logging.getLogger("pinetune.serve")
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a restart; doubled with each death
HEALTHY = 60.0  # seconds after which a program counts as well started
LOOK = 0.2


@dataclass(slots=True)
class Program:
    """One process to keep running. `mourn` is called after each death, before the restart."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    mourn: Callable[[], object] = field(default=lambda: None)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait: float = FIRST_WAIT

    def start(self) -> None:
        """In a session of its own, so that Ctrl-C reaches it through us; its input closes with our death, which it notices."""
        self.close()
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        self.started = time.monotonic()

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def tell(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """A thread that looks after `programs`, from `start` to `stop`."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.programs = list(programs)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        for program in self.programs:
            program.start()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """SIGTERM to all, and SIGKILL to what still runs after `seconds`."""
        self._ending.set()
        self._thread.join()
        self._tell(signal.SIGTERM)
        until = time.monotonic() + seconds
        for program in self.programs:
            if program.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.process.wait(max(0.0, until - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        self._tell(signal.SIGKILL)
        for program in self.programs:
            if program.process is not None:
                program.process.wait()
            program.close()

    def _tell(self, number: int) -> None:
        for program in self.programs:
            program.tell(number)

    def _watch(self) -> None:
        restart_at: dict[str, float] = {}
        while not self._ending.wait(LOOK):
            for program in self.programs:
                if program.process is None or program.process.poll() is None:
                    continue
                if program.name not in restart_at:
                    restart_at[program.name] = time.monotonic() + self._patience(program)
                    self._mourn(program)
                if time.monotonic() >= restart_at[program.name]:
                    self._restart(program, restart_at)

    def _restart(self, program: Program, restart_at: dict[str, float]) -> None:
        try:
            program.start()
            del restart_at[program.name]
        except OSError as error:  # no memory, no process left: later perhaps
            log.warning("%s cannot be started (%s); it is tried again in %.0f s", program.name, error, LONGEST_WAIT)
            restart_at[program.name] = time.monotonic() + LONGEST_WAIT

    def _patience(self, program: Program) -> float:
        if time.monotonic() - program.started > HEALTHY:
            program.wait = FIRST_WAIT
        wait, program.wait = program.wait, min(LONGEST_WAIT, 2 * program.wait)
        assert program.process is not None
        log.warning("%s ended with status %s; it is started again in %.1f s", program.name, program.process.returncode, wait)
        return wait

    def _mourn(self, program: Program) -> None:
        try:
            program.mourn()
        except Exception:  # the store may be away; leases run out by themselves
            log.exception("%s", program.name)

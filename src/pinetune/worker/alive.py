"""Which workers of this machine are dead for certain: each holds a lock on a folder of its own as long as it lives.

A worker that was killed together with its supervisor cannot be mourned by it. The next one that starts in the same home finds
the folder without its lock, and need not wait until the leases of the dead have run out. A lock ends with its process, whatever
ended it. Folders are kept by machine, since a shared home holds those of workers elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pinetune.errors import JobError, StoreError
from pinetune.runs.lock import locked

log = logging.getLogger("pinetune.worker")


@contextmanager
def living(home: Path, worker: str) -> Iterator[None]:
    """Hold a sign of life of `worker`."""
    folder = _signs(home) / secrets.token_hex(8)
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder))
            (folder / "name").write_text(worker, "utf-8")
        except OSError as error:  # a full disk: without a sign, leases must run out after a kill
            log.warning("%s leaves no sign of life (%s)", worker, error)
        yield
        shutil.rmtree(folder, ignore_errors=True)


def mourn(home: Path, give_back: Callable[[str], object]) -> None:
    """Call `give_back` with each name whose workers on this machine are all dead, and forget them."""
    alive: set[str] = set()
    with ExitStack() as held:
        dead: dict[Path, str] = {}
        for folder in sorted(_signs(home).glob("*")):
            with suppress(OSError):  # one that ends properly takes its folder away
                name = (folder / "name").read_text("utf-8")
                try:
                    held.enter_context(locked(folder))
                    dead[folder] = name
                except JobError:
                    alive.add(name)
        for folder, name in dead.items():
            try:
                if name not in alive:
                    give_back(name)
                shutil.rmtree(folder, ignore_errors=True)
            except StoreError as error:  # leases run out by themselves
                log.warning("%s: %s", name, error)


def _signs(home: Path) -> Path:
    return home / "workers" / hashlib.sha256(socket.gethostname().encode()).hexdigest()[:16]

"""One process at a time in a run folder: the same command started twice must not write the same files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pinetune.errors import JobError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. Raises JobError while another one holds it; a killed holder's lock is gone with it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(f"{folder}: another process is running this job; wait for it, stop it, or choose another --out") from None
        yield

"""A job's work folder, HOME/jobs/<id>: what the child is given, and what it leaves.

job.json              the body as `loop.job.prepare` takes it: files and model as paths
training.jsonl ...    the job's files, read only
run/                  the run folder: the truth of what happened (see runs.folder)
finished.json         written by the child at its very end
handover/ restored/   on their way to and from other workers' homes (worker.handover)
child.log             what the child printed; its last lines explain a crash
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pinetune.errors import JobError, StoreFull
from pinetune.runs import files
from pinetune.runs.folder import RunFolder
from pinetune.runs.lock import locked

PATIENCE = 60.0  # seconds for a predecessor, told to end, to leave the run folder
LOG_BYTES = 4000  # of the log's end that are read for an explanation


def is_disk_full(error: BaseException) -> bool:
    """Also by its words: libraries that write weights and tables raise errors of their own."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


@contextmanager
def plainly() -> Iterator[None]:
    """A full disk under the work folders is a store's fault, which passes, and not the job's. Raises StoreFull."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error) and not isinstance(error, StoreFull):
            raise StoreFull("The disk that holds the jobs' folders is full; free some space") from error
        raise


@contextmanager
def patiently_locked(path: Path) -> Iterator[None]:
    """`locked`, tried again while a predecessor that lost the job is still about to die. Raises JobError."""
    until = time.monotonic() + PATIENCE
    while True:
        lock = locked(path)
        try:
            lock.__enter__()
            break
        except JobError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


class JobFolder:
    """Opening touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.body_file = self.path / "job.json"
        self.finished_file = self.path / "finished.json"
        self.log_file = self.path / "child.log"
        self.run = RunFolder(self.path / "run")

    @classmethod
    def of(cls, home: Path, job_id: str) -> JobFolder:
        return cls(home / "jobs" / job_id)

    def data_file(self, role: str) -> Path:
        return self.path / f"{role.removesuffix('_file')}.jsonl"

    def write_body(self, value: dict[str, Any]) -> None:
        files.write_json(self.body_file, value)

    def read_body(self) -> dict[str, Any]:
        return dict(files.read_json(self.body_file))

    def write_finished(self, value: dict[str, Any]) -> None:
        files.write_json(self.finished_file, value)

    def read_finished(self) -> dict[str, Any] | None:
        """What the child said at its very end; None when it never got there."""
        return dict(files.read_json(self.finished_file)) if self.finished_file.exists() else None

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the child's log."""
        if not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as file:
            file.seek(max(0, self.log_file.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.strip().splitlines()[-lines:])

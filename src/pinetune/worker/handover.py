"""A job's run folder in the store's files, as it was at its newest checkpoint: what a worker with another home goes on from.

    run folder --at each new checkpoint--> a folder in the store: the files that changed, and an index of all --> the job's row

Nothing is handed over where the store's files lie in the worker's own home: there is no other worker then that could read them.
See docs/decisions, "how a run folder reaches the store".
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pinetune.errors import LeaseLost, NotFound, StoreError
from pinetune.runs import files
from pinetune.runs.folder import RunFolder
from pinetune.store import Job, Lease, Store
from pinetune.worker.folder import JobFolder, patiently_locked, plainly
from pinetune.worker.mirror import checkpoint_folders

log = logging.getLogger("pinetune.worker")
INDEX = "index.json"  # {"step": of the newest checkpoint, "files": {name: the location of its folder, "" = this one}}
RETRY_SECONDS = 10.0  # after the store refused
TRIES = 5  # to find the folder standing still: the child goes on meanwhile, and removes checkpoints
Stamp = tuple[int, int, int]


class Handover:
    """One job's, for one lease; to be closed."""

    def __init__(self, store: Store, lease: Lease, job: Job, folder: JobFolder, home: Path) -> None:
        self._store, self._lease, self._job, self._folder = store, lease, job, folder
        self._wanted = not store.folders.is_in(home)
        self._stored: dict[str, tuple[Stamp, str]] = {}  # name -> what the file was, and the folder that holds it
        self._locations: set[str] = set()  # all folders that the job's row leads to
        self._seen: tuple[Any, ...] = ()
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def restore(self) -> None:
        """Fill the run folder from the store if another worker had come further than what lies here. Raises StoreError or JobError."""
        location = self._store.jobs.get(self._job.id).snapshot
        if not self._wanted or location is None:
            return
        try:
            index = self._index(location)
            self._locations = {location, *index["files"].values()} - {""}
            if index["step"] > max(checkpoint_folders(self._folder.run), default=-1):
                self._fetch(location, index["files"])
                self._seen = _state(self._folder.run)
        except NotFound as gone:  # the store's files were lost: the job begins anew, and ends with the same weights
            log.warning("%s: %s", self._job.id, gone)

    def offer(self) -> None:
        """Hand over, beside the work, the checkpoints that are new since last time."""
        if not self._wanted or time.monotonic() < self._not_before or (self._thread is not None and self._thread.is_alive()):
            return
        state = _state(self._folder.run)
        if state and state != self._seen:
            self._thread = threading.Thread(target=self._quietly, args=(state,))
            self._thread.start()

    def finish(self) -> None:
        """Hand over what is new, and wait for it: the job is about to leave this worker."""
        self.close()
        self._not_before = 0.0
        self.offer()
        self.close()

    def forget(self) -> None:
        """Remove what was handed over: the job has ended."""
        self.close()
        for location in self._locations:
            try:
                self._store.folders.remove(location)
            except StoreError as error:  # the store's sweep does it a day later
                log.warning("%s: %s", location, error)

    def close(self) -> None:
        """Wait for what is on its way."""
        if self._thread is not None:
            self._thread.join()

    def _quietly(self, state: tuple[Any, ...]) -> None:
        try:
            self._hand_over(state)
        except LeaseLost as lost:
            log.info("%s", lost)
        except (StoreError, OSError) as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            log.warning("%s: its checkpoint is not handed over yet (%s)", self._job.id, error)

    def _hand_over(self, state: tuple[Any, ...]) -> None:
        staging = self._folder.path / "handover"
        with plainly():
            shutil.rmtree(staging, ignore_errors=True)
            step, stamps = _stage(self._folder.run, staging)
        known = {name: self._stored[name][1] for name, stamp in stamps.items() if self._stored.get(name, (None, ""))[0] == stamp}
        for name in known:
            (staging / name).unlink()
        with plainly():
            files.write_json(staging / INDEX, {"step": step, "files": {name: known.get(name, "") for name in stamps}})
        location = self._store.folders.publish(staging, f"{self._job.id}-run-{step}")
        self._store.jobs.update(self._lease, snapshot=location)
        self._stored = {name: (stamp, known.get(name, location)) for name, stamp in stamps.items()}
        old, self._locations = self._locations, {location, *known.values()}
        self._seen = state
        shutil.rmtree(staging, ignore_errors=True)
        for gone in old - self._locations:
            self._store.folders.remove(gone)

    def _index(self, location: str) -> dict[str, Any]:
        copy = self._folder.path / f"{INDEX}{files.PARTIAL}"
        self._store.folders.copy_file(location, INDEX, copy)
        return dict(json.loads(copy.read_bytes()))

    def _fetch(self, location: str, names: Mapping[str, str]) -> None:
        """All files beside the run folder, which they then replace."""
        fresh, run = self._folder.path / "restored", self._folder.run.path
        with plainly(), patiently_locked(self._folder.path):  # a child of ours that lost the job may still be about to die
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for name, other in names.items():
                self._store.folders.copy_file(other or location, name, fresh / name)
            shutil.rmtree(run, ignore_errors=True)
            fresh.rename(run)
        self._stored = {name: (_stamp(run / name), other or location) for name, other in names.items()}


def _state(run: RunFolder) -> tuple[Any, ...]:
    """Differs when a checkpoint came or was written again."""
    try:
        return tuple((step, _stamp(path / "manifest.json")) for step, path in checkpoint_folders(run).items())
    except FileNotFoundError:  # one went meanwhile; the next look finds out
        return ()


def _stage(run: RunFolder, staging: Path) -> tuple[int, dict[str, Stamp]]:
    """Links and copies, under `staging`, of a whole run as of its newest checkpoint: that step, and what each file is.

    Checkpoints first: the records beside them then reach at least as far, and whoever goes on cuts them back.
    """
    for attempt in range(1, TRIES + 1):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            steps = checkpoint_folders(run)
            for folder in steps.values():
                _stage_checkpoint(run, folder, staging)
            for path in run.path.rglob("*"):
                if path.is_file() and run.checkpoints not in path.parents and not path.name.endswith((files.PARTIAL, "-wal", "-shm")):
                    _stage_record(run, path, staging / path.relative_to(run.path))
            return max(steps), {path.relative_to(staging).as_posix(): _stamp(path) for path in staging.rglob("*") if path.is_file()}
        except (FileNotFoundError, ValueError):  # the child removed or replaced what was being read
            if attempt == TRIES:
                raise
    raise AssertionError


def _stage_checkpoint(run: RunFolder, folder: Path, staging: Path) -> None:
    """What its manifest names. Raises FileNotFoundError when another checkpoint took its place meanwhile."""
    manifest = folder / "manifest.json"
    before = _stamp(manifest)
    for name in (manifest.name, *json.loads(manifest.read_bytes())["files"]):
        _link(folder / name, staging / (folder / name).relative_to(run.path))
    if _stamp(manifest) != before:
        raise FileNotFoundError(manifest)


def _stage_record(run: RunFolder, path: Path, target: Path) -> None:
    if path in (run.metrics_file, run.events_file, run.marks_file):  # grow in place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    elif path == run.judges_file:
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    else:
        _link(path, target)


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(path, target)


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns

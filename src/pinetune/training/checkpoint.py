"""Checkpoints that are whole or not there: a folder per step, its manifest written last, then renamed into place.

    checkpoints/step-00020/model/          a Hugging Face folder (an adapter folder with its base's name under LoRA)
                           learner/        trainable weights, optimizer, random state: for an exact resume
                           loop.json       where the job was
                           manifest.json   SHA-256 and bytes of every file above

A folder that was being written when the process died has another name and no manifest; it is ignored and swept away.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.errors import UserError
from pinetune.models.export import save_adapter, save_merged
from pinetune.models.load import LoadedModel
from pinetune.records import Learner

MANIFEST = "manifest.json"
PARTIAL = ".partial"
_STEP = re.compile(r"step-(\d{5,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    step: int
    folder: Path

    @property
    def model(self) -> Path:
        """The Hugging Face folder."""
        return self.folder / "model"

    def loop_state(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "loop.json").read_text(encoding="utf-8")))

    def check(self) -> None:
        """Compare every file with the manifest. Raises UserError naming the first that was changed, cut or removed."""
        for name, entry in json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["files"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
                raise UserError(f"{path} is missing or was changed after it was saved; delete {self.folder} to go back one checkpoint")


class CheckpointStore:
    """The checkpoints of one job under `folder`. One process writes."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, step: int, learner: Learner, loaded: LoadedModel, loop_state: Mapping[str, Any]) -> Checkpoint:
        """Write the checkpoint of `step`, replacing one of the same step."""
        partial = self.folder / f"step-{step:05d}{PARTIAL}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        learner.save(str(partial / "learner"))
        (save_adapter if loaded.is_lora else save_merged)(loaded, partial / "model")
        (partial / "loop.json").write_text(json.dumps(dict(loop_state)), encoding="utf-8")
        write_manifest(partial, step)
        final = self.folder / f"step-{step:05d}"
        if final.exists():
            old = self.folder / f"step-{step:05d}.old{PARTIAL}"
            final.rename(old)
            shutil.rmtree(old)
        partial.rename(final)
        sync(self.folder)
        return Checkpoint(step, final)

    def all(self) -> list[Checkpoint]:
        """The complete checkpoints, oldest first."""
        found = []
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _STEP.fullmatch(folder.name)
            if match and (folder / MANIFEST).is_file():
                found.append(Checkpoint(int(match[1]), folder))
        return sorted(found, key=lambda c: c.step)

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint; unfinished ones are deleted."""
        for leftover in self.folder.glob(f"step-*{PARTIAL}"):
            shutil.rmtree(leftover, ignore_errors=True)
        complete = self.all()
        return complete[-1] if complete else None

    def get(self, step: int) -> Checkpoint:
        """Raises UserError when there is no complete checkpoint of that step."""
        for checkpoint in self.all():
            if checkpoint.step == step:
                return checkpoint
        known = ", ".join(str(c.step) for c in self.all()) or "none"
        raise UserError(f"{self.folder} has no checkpoint of step {step} (there are: {known})")

    def load(self, checkpoint: Checkpoint, learner: Learner) -> dict[str, Any]:
        """Check the files, put weights, optimizer and random state into `learner` and return the loop state."""
        checkpoint.check()
        learner.load(str(checkpoint.folder / "learner"))
        return checkpoint.loop_state()

    def keep(self, best: Collection[int], last: int = 2) -> None:
        """Delete all checkpoints but those of the steps `best` and the newest `last` ones."""
        complete = self.all()
        kept = {*best, *(c.step for c in complete[max(0, len(complete) - last) :])}
        for checkpoint in complete:
            if checkpoint.step not in kept:
                # without its manifest a half-deleted folder no longer counts as a checkpoint
                (checkpoint.folder / MANIFEST).unlink()
                shutil.rmtree(checkpoint.folder)


def write_manifest(folder: Path, step: int) -> None:
    """Flush every file of `folder` to the disk, then name them all, with their hashes, in a manifest."""
    files = {}
    for path in sorted(files_under(folder)):
        sync(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"step": step, "files": files}, indent=1), encoding="utf-8")
    sync(manifest)
    sync(folder)


def files_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to the disk: a power cut must not leave a manifest without its files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

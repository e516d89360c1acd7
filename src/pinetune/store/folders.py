"""Weights as folders: published once under a name of their own, never changed, readable from every machine.

A published folder's location is `store:` and its name; it stands in the rows of checkpoints and models. Where the files
live in a local (or shared) folder, publishing links the files instead of copying them. A redone checkpoint gets a new
name: readers of the old one keep it whole until the row names the new one and `sweep` removes the old.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pinetune.errors import NotFound, StoreError
from pinetune.store import ids
from pinetune.store.blobs import Blobs, plainly

PREFIX = "store:"
MANIFEST = "published.json"  # sizes of all files, written last: a folder without it is not whole


class Folders:
    """Folders beside the files, in the place that PINETUNE_FILES_URL names."""

    def __init__(self, blobs: Blobs) -> None:
        self._fs, self._root = blobs.filesystem, f"{blobs.root}/folders"
        self._is_local, self._cache = blobs.is_local, blobs.cache / "folders"

    def publish(self, folder: Path, name: str) -> str:
        """Make `folder` readable everywhere; its location. `name` (an id, a step) is only for people who look at the disk."""
        unique = f"{name}-{ids.random_text(8)}"
        if not ids.SAFE.fullmatch(unique):
            raise ValueError(f"not a name for a folder: {name!r}")
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        manifest = json.dumps({name: path.stat().st_size for name, path in files.items()}).encode()
        with plainly():
            if self._is_local:
                self._link(files, unique, manifest)
            else:
                for relative, path in files.items():
                    self._fs.put_file(str(path), f"{self._root}/{unique}/{relative}")
                self._fs.pipe_file(f"{self._root}/{unique}/{MANIFEST}", manifest)
        return PREFIX + unique

    def path(self, location: str) -> Path:
        """Where a program can open the folder: itself, or a copy in the cache. A location that is a plain path is that path.

        Raises NotFound when it was removed.
        """
        if not location.startswith(PREFIX):
            return Path(location)
        name = _checked(location)
        if self._is_local:
            found = Path(self._root) / name
            if not (found / MANIFEST).exists():
                raise NotFound("folder", location)
            return found
        copy = self._cache / name
        if not copy.exists():
            self._fetch(name, copy)
        return copy

    def remove(self, location: str) -> None:
        """Gone for good; a plain path, which is not ours, stays. Remove the row that names it first."""
        if not location.startswith(PREFIX):
            return
        name = _checked(location)
        with plainly(), suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{name}", recursive=True)
        shutil.rmtree(self._cache / name, ignore_errors=True)

    def is_in(self, folder: Path) -> bool:
        """Whether everything is kept under `folder` of this machine."""
        return self._is_local and Path(self._root).resolve().is_relative_to(folder.resolve())

    def copy_file(self, location: str, name: str, target: Path) -> None:
        """Copy one file of a published folder to the path `target`. Raises NotFound when it is not there."""
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise StoreError(f"{location} names a file outside of it ({name!r})")
        target.parent.mkdir(parents=True, exist_ok=True)
        with plainly():
            try:
                self._fs.get_file(f"{self._root}/{_checked(location)}/{name}", str(target))
            except FileNotFoundError:
                raise NotFound("folder", location) from None

    def sweep(self, wanted: Collection[str], now: float, age_seconds: float = 24 * 3600.0, *, owners: Collection[str] = ()) -> int:
        """Remove folders older than `age_seconds` whose location is not `wanted` and whose name begins with none of `owners`; how many."""
        with plainly():
            self._fs.invalidate_cache()
            if not self._fs.exists(self._root):
                return 0
            names = [path.rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False)]
        swept = 0
        for name in names:
            owned = any(name.startswith(f"{owner}-") for owner in owners)
            if PREFIX + name not in wanted and not owned and now - self._written(name) > age_seconds:
                self.remove(PREFIX + name)
                swept += 1
        return swept

    def _link(self, files: dict[str, Path], unique: str, manifest: bytes) -> None:
        partial = Path(f"{self._root}/{unique}.partial")
        try:
            for relative, path in files.items():
                target = partial / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, target)
                except OSError:  # another disk, or a file system without links
                    shutil.copyfile(path, target)
            partial.mkdir(parents=True, exist_ok=True)
            (partial / MANIFEST).write_bytes(manifest)
            partial.replace(Path(self._root) / unique)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _fetch(self, name: str, copy: Path) -> None:
        partial = copy.with_name(f"{name}.{os.getpid()}.partial")
        with plainly():
            try:
                sizes = json.loads(self._fs.cat_file(f"{self._root}/{name}/{MANIFEST}"))
            except FileNotFoundError:
                raise NotFound("folder", PREFIX + name) from None
            for relative, size in sizes.items():
                if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                    raise StoreError(f"{name}: its manifest names a file outside of it ({relative!r})")
                target = partial / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(f"{self._root}/{name}/{relative}", str(target))
                if target.stat().st_size != size:
                    raise StoreError(f"{name}/{relative}: {target.stat().st_size:,} bytes came, not {size:,}; try again")
        try:
            partial.replace(copy)
        except OSError:  # another process was faster; its copy is as good
            shutil.rmtree(partial, ignore_errors=True)

    def _written(self, name: str) -> float:
        try:
            return float(self._fs.modified(f"{self._root}/{name}").timestamp())
        except (OSError, NotImplementedError, ValueError):
            return float(self._fs.modified(f"{self._root}/{name}/{MANIFEST}").timestamp())


def _checked(location: str) -> str:
    name = location.removeprefix(PREFIX)
    if not ids.SAFE.fullmatch(name):
        raise NotFound("folder", location)
    return name

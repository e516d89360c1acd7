"""File contents, by id, in a local folder or anywhere fsspec reaches. No name a user chose ever becomes a path."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec

from pinetune.errors import NotFound, StoreError, StoreFull, TooLarge
from pinetune.store import ids

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    bytes: int
    sha256: str
    md5: str


class Blobs:
    """Whole contents under ids: readers see all of a blob or none."""

    def __init__(self, url: str, cache: Path, filesystem: Any = None) -> None:
        """`filesystem` None = the one the URL names. `cache` holds local copies of remote blobs."""
        found, root = fsspec.core.url_to_fs(url) if filesystem is None else (filesystem, url)
        self.filesystem, self.root, self.cache = found, root.rstrip("/"), cache
        self.is_local = filesystem is None and type(found).__name__ == "LocalFileSystem"

    def write(self, id: str, chunks: Iterable[bytes], limit: int | None = None) -> Written:
        """Store the chunks as `id`. Raises TooLarge at the first byte beyond `limit`, StoreFull on a full disk; nothing remains then."""
        partial, path = self._partial(id), self._path(id)
        try:
            written = self._fill(partial, chunks, limit)
            with plainly():
                self._publish(partial, path)
        except BaseException:
            self._remove(partial)
            raise
        return written

    def _fill(self, partial: str, chunks: Iterable[bytes], limit: int | None) -> Written:
        sha256, md5, total = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with plainly():
            self.filesystem.makedirs(self.root + "/incoming", exist_ok=True)
            file = self.filesystem.open(partial, "wb")
        try:
            for chunk in chunks:  # whatever the source raises is the caller's, not the disk's
                total += len(chunk)
                if limit is not None and total > limit:
                    raise TooLarge(f"The file is larger than {limit:,} bytes, the most that is allowed", limit)
                sha256.update(chunk)
                md5.update(chunk)
                with plainly():
                    file.write(chunk)
            with plainly():
                self._sync(file)
                file.close()
        except BaseException:
            with suppress(OSError):  # closing flushes, which fails again on a full disk
                file.close()
            raise
        return Written(total, sha256.hexdigest(), md5.hexdigest())

    def open(self, id: str) -> IO[bytes]:
        """A readable, seekable stream. Raises NotFound."""
        with plainly():
            try:
                return cast("IO[bytes]", self.filesystem.open(self._path(id), "rb"))
            except FileNotFoundError:
                raise NotFound("file content", id) from None

    def chunks(self, id: str, size: int = CHUNK) -> Iterator[bytes]:
        with self.open(id) as file:
            while chunk := file.read(size):
                yield chunk

    def local_path(self, id: str) -> Path:
        """A path to read the content from: the blob itself, or a copy in the cache. Never write to it."""
        if self.is_local:
            path = Path(self._path(id))
            if not path.exists():
                raise NotFound("file content", id)
            return path
        copy = self.cache / _checked(id)
        if not copy.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f"{copy.name}.{os.getpid()}.partial")
            with plainly(), self.open(id) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK)
            partial.replace(copy)
        return copy

    def delete(self, id: str) -> None:
        """Gone for good; no complaint when it already is."""
        self._remove(self._path(id))
        (self.cache / _checked(id)).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Of all whole blobs."""
        return self._listed("/blobs")

    def age(self, id: str, now: float) -> float:
        """Seconds since the blob was written; 0 for one that went meanwhile."""
        return self._age(self._path(id), now)

    def sweep_partials(self, now: float, age_seconds: float) -> int:
        """Remove what killed writers left behind that long ago; how many."""
        paths = [f"{self.root}/incoming/{id}" for id in self._listed("/incoming")]
        old = [path for path in paths if self._age(path, now) > age_seconds]
        for path in old:
            self._remove(path)
        return len(old)

    def _age(self, path: str, now: float) -> float:
        try:
            return now - float(self.filesystem.modified(path).timestamp())
        except FileNotFoundError:
            return 0.0

    def _listed(self, folder: str) -> list[str]:
        with plainly():
            self.filesystem.invalidate_cache()
            if not self.filesystem.exists(self.root + folder):
                return []
            return sorted(name.rsplit("/", 1)[-1] for name in self.filesystem.ls(self.root + folder, detail=False))

    def _path(self, id: str) -> str:
        return f"{self.root}/blobs/{_checked(id)}"

    def _partial(self, id: str) -> str:
        return f"{self.root}/incoming/{_checked(id)}"

    def _sync(self, file: Any) -> None:
        if self.is_local:
            file.flush()
            os.fsync(file.fileno())

    def _publish(self, partial: str, path: str) -> None:
        self.filesystem.makedirs(self.root + "/blobs", exist_ok=True)
        if not self.is_local:
            self.filesystem.mv(partial, path)
            return
        os.replace(partial, path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)  # the rename itself must survive a power cut, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _remove(self, path: str) -> None:
        with plainly():
            try:
                self.filesystem.rm_file(path)
            except FileNotFoundError:
                return


def _checked(id: str) -> str:
    if not ids.SAFE.fullmatch(id):
        raise NotFound("file content", id)
    return id


def as_chunks(content: bytes | IO[bytes] | Iterable[bytes]) -> Iterable[bytes]:
    """Bytes, a stream or an iterable, as pieces to write."""
    if isinstance(content, bytes):
        return [content]
    if hasattr(content, "read"):
        stream: IO[bytes] = content  # type: ignore[assignment]
        return iter(lambda: stream.read(CHUNK), b"")
    return content


@contextmanager
def plainly() -> Iterator[None]:
    """The file system's faults in plain words; FileNotFoundError passes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("The disk that holds the files is full; nothing was stored. Free some space and try again") from error
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(f"The file store cannot be used ({error}); check PINETUNE_FILES_URL and its permissions") from error

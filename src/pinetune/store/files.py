"""Files people upload and results they download: a row with facts, a blob with the content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from pinetune.errors import MoveRefused, NotFound
from pinetune.store import ids
from pinetune.store.blobs import Blobs, Written, as_chunks
from pinetune.store.database import Database, as_row, count
from pinetune.store.paging import Conditions, Order, columns, page
from pinetune.store.rows import File, Page
from pinetune.store.schema import File as FileTable
from pinetune.store.schema import Job as JobTable
from pinetune.store.schema import UploadPart as PartTable
from pinetune.store.states import OPEN

FILES, JOBS, PARTS = columns(FileTable), columns(JobTable), columns(PartTable)
ORPHAN_SECONDS = 24 * 3600.0  # a blob without a row may belong to an upload in flight; after a day it does not


@dataclass(frozen=True, slots=True)
class Staged:
    """Content that is stored and no file yet."""

    id: str
    written: Written


class Files:
    """Blob first, row second: a file that was acknowledged has both."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._db = database
        self._blobs = blobs

    def create(
        self,
        project: str,
        purpose: str,
        filename: str,
        content: bytes | IO[bytes] | Iterable[bytes],
        *,
        limit: int | None = None,
        expires_after: float | None = None,
        status: str = "processed",
    ) -> File:
        """Stream `content` into the store. Raises TooLarge beyond `limit` bytes, StoreFull; nothing remains then."""
        return self.keep(self.stage(content, limit), project, purpose, filename, expires_after=expires_after, status=status)

    def stage(self, content: bytes | IO[bytes] | Iterable[bytes], limit: int | None = None) -> Staged:
        """The first half of `create`, for who learns the purpose after the content. `keep` or `discard` it; `sweep` does after a day."""
        id = ids.new(ids.FILE)
        return Staged(id, self._blobs.write(id, as_chunks(content), limit))

    def keep(
        self, staged: Staged, project: str, purpose: str, filename: str, *, expires_after: float | None = None, status: str = "processed"
    ) -> File:
        """The second half: the content becomes a file, or is gone."""
        try:
            with self._db.write() as connection:
                named = (staged.id, project, purpose, filename, staged.written)
                return insert_file(connection, *named, self._db.now(), expires_after, status)
        except BaseException:
            self.discard(staged)
            raise

    def discard(self, staged: Staged) -> None:
        self._blobs.delete(staged.id)

    def get(self, id: str, project: str | None = None) -> File:
        """Raises NotFound, also for another project's file; project None sees all."""
        with self._db.read() as connection:
            return _get(connection, id, project)

    def list(
        self,
        project: str | None = None,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10000,
        order: Order = "desc",
    ) -> Page[File]:
        with self._db.read() as connection:
            scope = [] if project is None else [FILES.c.project == project]
            filters: Conditions = [FILES.c.deleted_at.is_(None)]
            if purpose is not None:
                filters.append(FILES.c.purpose == purpose)
            return page(connection, FILES, File, scope=scope, filters=filters, after=after, limit=limit, order=order)

    def open(self, id: str, project: str | None = None) -> IO[bytes]:
        """The content, as a readable stream."""
        self.get(id, project)
        return self._blobs.open(id)

    def chunks(self, id: str, project: str | None = None) -> Iterator[bytes]:
        """The content in pieces of 1 MiB. Raises NotFound here, not at the first piece."""
        self.get(id, project)
        return self._blobs.chunks(id)

    def local_path(self, id: str, project: str | None = None) -> Path:
        """Where a program can read the content from, by path; a copy where the files live on another machine. Read only."""
        self.get(id, project)
        return self._blobs.local_path(id)

    def set_status(self, id: str, status: str, details: str | None = None) -> File:
        """processed, or error with what is wrong."""
        with self._db.write() as connection:
            connection.execute(update(FILES).where(FILES.c.id == id).values(status=status, status_details=details))
            return _get(connection, id, None)

    def delete(self, id: str, project: str | None = None) -> None:
        """Remove the content and hide the row. Raises MoveRefused while a job that has not ended needs the file."""
        with self._db.write() as connection:
            _get(connection, id, project, lock=True)  # first held, then judged: a job created meanwhile is seen below
            if not hide(connection, id, self._db.now()):
                where = (_uses(id), JOBS.c.status.in_(OPEN))
                job = connection.execute(select(JOBS.c.id, JOBS.c.status).where(*where).limit(1)).one()
                text = f"Cannot delete {id}: job {job.id}, which is {job.status}, needs it; cancel the job or wait for its end"
                raise MoveRefused(text, job.status, "delete")
        self._blobs.delete(id)

    def sweep(self) -> int:
        """Remove expired files, contents of deleted files that a killed process left, and unfinished writes of a day ago; how many."""
        now = self._db.now()
        found = self._blobs.ids()  # listed first: what is stored meanwhile is not among them
        with self._db.write() as connection:
            late = connection.execute(select(FILES.c.id).where(FILES.c.expires_at <= now, FILES.c.deleted_at.is_(None))).scalars().all()
            for id in late:
                hide(connection, id, now)
            live = set(connection.execute(select(FILES.c.id).where(FILES.c.deleted_at.is_(None))).scalars())
            deleted = set(connection.execute(select(FILES.c.id).where(FILES.c.deleted_at.is_not(None))).scalars())
            live.update(connection.execute(select(PARTS.c.id)).scalars())
        gone = [id for id in found if id in deleted or (id not in live and self._blobs.age(id, now) > ORPHAN_SECONDS)]
        for id in gone:
            self._blobs.delete(id)
        return len(gone) + self._blobs.sweep_partials(now, ORPHAN_SECONDS)


def insert_file(
    connection: Connection,
    id: str,
    project: str,
    purpose: str,
    filename: str,
    written: Written,
    now: float,
    expires_after: float | None,
    status: str = "processed",
) -> File:
    row = {
        "id": id, "created_at": now, "project": project, "purpose": purpose, "filename": filename, "bytes": written.bytes,
        "sha256": written.sha256, "status": status, "expires_at": None if expires_after is None else now + expires_after,
    }  # fmt: skip
    return as_row(File, connection.execute(insert(FILES).values(row).returning(FILES)).one())


def hide(connection: Connection, id: str, now: float) -> bool:
    """Mark as deleted unless a job needs it. False: one does."""
    used = select(JOBS.c.id).where(_uses(id), JOBS.c.status.in_(OPEN)).exists()
    where = (FILES.c.id == id, FILES.c.deleted_at.is_(None), ~used)
    return count(connection, update(FILES).where(*where).values(deleted_at=now, filename="")) == 1


def _uses(id: str) -> ColumnElement[bool]:
    return or_(JOBS.c.training_file == id, JOBS.c.validation_file == id, JOBS.c.test_file == id)


def _get(connection: Connection, id: str, project: str | None, lock: bool = False) -> File:
    query = select(FILES).where(FILES.c.id == id, FILES.c.deleted_at.is_(None))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or (project is not None and row.project != project):
        raise NotFound("file", id)
    return as_row(File, row)

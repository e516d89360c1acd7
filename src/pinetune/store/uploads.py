"""Large files in parts: begun, filled part by part, joined in the order the user names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from sqlalchemy import Connection, delete, insert, select, update

from pinetune.errors import MoveRefused, NotFound, PartsWrong
from pinetune.store import ids
from pinetune.store.blobs import Blobs, as_chunks
from pinetune.store.database import Database, as_row, count
from pinetune.store.files import insert_file
from pinetune.store.paging import columns
from pinetune.store.rows import File, Upload, UploadPart
from pinetune.store.schema import Upload as UploadTable
from pinetune.store.schema import UploadPart as PartTable

UPLOADS, PARTS = columns(UploadTable), columns(PartTable)
LIFE_SECONDS = 3600.0


class Uploads:
    """Parts are blobs of their own until the upload is completed."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._db = database
        self._blobs = blobs

    def create(
        self, project: str, filename: str, purpose: str, bytes: int, mime_type: str, file_expires_after: int | None = None
    ) -> Upload:
        """`bytes` is the size of the whole, which the parts must add up to. Open for an hour."""
        now = self._db.now()
        row = {
            "id": ids.new(ids.UPLOAD), "created_at": now, "project": project, "filename": filename, "purpose": purpose, "bytes": bytes,
            "mime_type": mime_type, "status": "pending", "expires_at": now + LIFE_SECONDS, "file_expires_after": file_expires_after,
        }  # fmt: skip
        with self._db.write() as connection:
            return as_row(Upload, connection.execute(insert(UPLOADS).values(row).returning(UPLOADS)).one())

    def get(self, id: str, project: str | None = None) -> Upload:
        with self._db.read() as connection:
            return self._get(connection, id, project)

    def add_part(self, id: str, content: bytes | IO[bytes] | Iterable[bytes], *, limit: int, project: str | None = None) -> UploadPart:
        """Raises TooLarge beyond `limit` bytes, or when the parts together exceed what was announced; MoveRefused when not pending."""
        upload = self._pending(self.get(id, project), "add a part to")
        with self._db.read() as connection:
            so_far = sum(connection.execute(select(PARTS.c.bytes).where(PARTS.c.upload_id == id)).scalars())
        part = ids.new(ids.PART)
        written = self._blobs.write(part, as_chunks(content), min(limit, upload.bytes - so_far))
        try:
            with self._db.write() as connection:
                if self._guarded(connection, upload, "pending") == 0:
                    raise self._refusal(self._get(connection, id, project), "add a part to")
                row = {"id": part, "created_at": self._db.now(), "upload_id": id, "bytes": written.bytes}
                return as_row(UploadPart, connection.execute(insert(PARTS).values(row).returning(PARTS)).one())
        except BaseException:
            self._blobs.delete(part)
            raise

    def complete(self, id: str, part_ids: Sequence[str], *, md5: str | None = None, project: str | None = None) -> tuple[Upload, File]:
        """Join the parts in the order given into a file. Raises PartsWrong when size or md5 differ, NotFound for a part not of it."""
        upload = self._pending(self.get(id, project), "complete")
        with self._db.read() as connection:
            sizes = {row.id: row.bytes for row in connection.execute(select(PARTS).where(PARTS.c.upload_id == id))}
        for part in part_ids:
            if part not in sizes:
                raise NotFound("upload part", part)
        total = sum(sizes[part] for part in part_ids)
        if total != upload.bytes:
            raise PartsWrong(f"The parts hold {total:,} bytes, and {upload.bytes:,} were announced; send the missing parts or a new upload")
        file_id = ids.new(ids.FILE)
        written = self._blobs.write(file_id, (chunk for part in part_ids for chunk in self._blobs.chunks(part)))
        try:
            if md5 is not None and md5.lower() != written.md5:
                raise PartsWrong(f"The parts' md5 is {written.md5}, not {md5}; send them again")
            with self._db.write() as connection:
                if self._guarded(connection, upload, "completed", file_id) == 0:
                    raise self._refusal(self._get(connection, id, project), "complete")
                named = (upload.project, upload.purpose, upload.filename)
                file = insert_file(connection, file_id, *named, written, self._db.now(), upload.file_expires_after)
                connection.execute(delete(PARTS).where(PARTS.c.upload_id == id))
        except BaseException:
            self._blobs.delete(file_id)
            raise
        self._remove(sizes)
        return self.get(id), file

    def cancel(self, id: str, project: str | None = None) -> Upload:
        upload = self._pending(self.get(id, project), "cancel")
        return self._end(upload, "cancelled")

    def sweep(self) -> int:
        """End the uploads whose hour is over and remove their parts; how many."""
        with self._db.read() as connection:
            where = (UPLOADS.c.status == "pending", UPLOADS.c.expires_at <= self._db.now())
            late = [as_row(Upload, row) for row in connection.execute(select(UPLOADS).where(*where))]
        for upload in late:
            self._end(upload, "expired")
        return len(late)

    def _end(self, upload: Upload, status: str) -> Upload:
        with self._db.write() as connection:
            if self._guarded(connection, upload, status) == 0:
                raise self._refusal(self._get(connection, upload.id, None), "cancel")
            parts = connection.execute(select(PARTS.c.id).where(PARTS.c.upload_id == upload.id)).scalars().all()
            connection.execute(delete(PARTS).where(PARTS.c.upload_id == upload.id))
            ended = self._get(connection, upload.id, None)
        self._remove(parts)
        return ended

    def _guarded(self, connection: Connection, upload: Upload, status: str, file_id: str | None = None) -> int:
        """From pending only; also holds the row, so that a part and the end of its upload take turns."""
        where = (UPLOADS.c.id == upload.id, UPLOADS.c.status == "pending")
        return count(connection, update(UPLOADS).where(*where).values(status=status, file_id=file_id))

    def _pending(self, upload: Upload, verb: str) -> Upload:
        if upload.status == "pending" and upload.expires_at <= self._db.now():
            upload = self._end(upload, "expired")
        if upload.status != "pending":
            raise self._refusal(upload, verb)
        return upload

    def _refusal(self, upload: Upload, verb: str) -> MoveRefused:
        return MoveRefused(f"Cannot {verb} upload {upload.id}: it is {upload.status}, and must be pending", upload.status, verb)

    def _get(self, connection: Connection, id: str, project: str | None) -> Upload:
        row = connection.execute(select(UPLOADS).where(UPLOADS.c.id == id)).one_or_none()
        if row is None or (project is not None and row.project != project):
            raise NotFound("upload", id)
        return as_row(Upload, row)

    def _remove(self, parts: Iterable[str]) -> None:
        for part in parts:
            self._blobs.delete(part)

"""Records brought over from elsewhere, under their own ids and times. Nothing is overwritten: what is known stays as it is.

An import may be killed and started again at any point; it ends with the same rows as one that ran through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import IO, Any

from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import IntegrityError

from pinetune.errors import MoveRefused, NotFound, StoreError
from pinetune.store.blobs import Blobs, as_chunks
from pinetune.store.database import Database
from pinetune.store.paging import columns
from pinetune.store.rows import Checkpoint, Eval, EvalRun, File, Job, OutputItem
from pinetune.store.schema import Checkpoint as CheckpointTable
from pinetune.store.schema import Eval as EvalTable
from pinetune.store.schema import EvalRun as RunTable
from pinetune.store.schema import File as FileTable
from pinetune.store.schema import Job as JobTable
from pinetune.store.schema import OutputItem as ItemTable
from pinetune.store.states import FINAL

FILES, JOBS, CHECKPOINTS = columns(FileTable), columns(JobTable), columns(CheckpointTable)
EVALS, RUNS, ITEMS = columns(EvalTable), columns(RunTable), columns(ItemTable)
FINISHED_RUN = ("completed", "failed", "canceled")


class Imports:
    """Each method: True (or how many) where something new was stored. Events come in by `events.append`, with `NewEvent.id`."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._db = database
        self._blobs = blobs

    def file(self, file: File, content: bytes | IO[bytes] | Iterable[bytes]) -> bool:
        """Size and hash are taken from the content, not from the record."""
        with self._db.read() as connection:
            if _known(connection, FILES, file.id):
                return False
        written = self._blobs.write(file.id, as_chunks(content))
        with self._db.write() as connection:
            return _insert(connection, FILES, file, bytes=written.bytes, sha256=written.sha256)

    def job(self, job: Job) -> bool:
        """Only jobs that ended: a worker would run the others. Raises MoveRefused for those.

        Its model's weights do not come along; the job shows the name, and the model cannot be called.
        """
        if job.status not in FINAL:
            raise MoveRefused(f"{job.id} is {job.status}; import it when it has ended", job.status, "import")
        with self._db.write() as connection:
            return _insert(connection, JOBS, job, worker=None, lease_until=None)

    def checkpoint(self, checkpoint: Checkpoint) -> bool:
        with self._db.write() as connection:
            if not _known(connection, JOBS, checkpoint.job_id):
                raise NotFound("fine-tuning job", checkpoint.job_id)
            return _insert(connection, CHECKPOINTS, checkpoint)

    def eval(self, eval: Eval) -> bool:
        with self._db.write() as connection:
            return _insert(connection, EVALS, eval)

    def run(self, run: EvalRun) -> bool:
        """Only runs that ended. Raises MoveRefused for the others."""
        if run.status not in FINISHED_RUN:
            raise MoveRefused(f"{run.id} is {run.status}; import it when it has ended", run.status, "import")
        with self._db.write() as connection:
            if not _known(connection, EVALS, run.eval_id):
                raise NotFound("eval", run.eval_id)
            return _insert(connection, RUNS, run, worker=None)

    def items(self, items: Sequence[OutputItem]) -> int:
        with self._db.write() as connection:
            return sum(_insert(connection, ITEMS, item) for item in items)


def _known(connection: Connection, table: Table, id: str) -> bool:
    return connection.execute(select(table.c.seq).where(table.c.id == id)).first() is not None


def _insert(connection: Connection, table: Table, record: Any, **changes: Any) -> bool:
    if _known(connection, table, record.id):
        return False
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    try:
        connection.execute(insert(table).values({**row, **changes}))
    except IntegrityError as error:  # a model's name, or a step or position, that another object has
        raise StoreError(f"{record.id} cannot be brought over: a name or number of its own belongs to another object here") from error
    return True

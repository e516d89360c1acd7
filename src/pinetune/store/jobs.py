"""Fine-tuning jobs: what was asked, where it stands, and every move from state to state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from pinetune.errors import LeaseLost, MoveRefused, NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row
from pinetune.store.events import insert_events, lock_job
from pinetune.store.fencing import ended, held
from pinetune.store.models import insert_model
from pinetune.store.paging import columns, has_metadata, page
from pinetune.store.rows import Job, Lease, NewEvent, NewJob, NewModel, Page
from pinetune.store.schema import File as FileTable
from pinetune.store.schema import Job as JobTable
from pinetune.store.states import FINAL, MOVES, OPEN, Move
from pinetune.store.webhooks import enqueue

JOBS, FILES = columns(JobTable), columns(FileTable)
ANY: Mapping[str, str] = {}
WORKER_SETS = frozenset(
    ("hyperparameters", "estimated_finish", "trained_tokens", "usage_metrics", "eval_id", "folder", "snapshot", "result_files")
)


class Jobs:
    """Users' and workers' verbs. Workers prove themselves with the lease that `leases.claim` gave them."""

    def __init__(self, database: Database, organization: str) -> None:
        self._db = database
        self._organization = organization

    def create(self, new: NewJob) -> Job:
        """Store a job in `validating_files` with its first events. Raises NotFound for a file that the project does not have."""
        now = self._db.now()
        id = ids.new(ids.JOB)
        row = {name: getattr(new, name) for name in NewJob.__dataclass_fields__}
        row |= {
            "id": id, "created_at": now, "updated_at": now, "status": "validating_files", "result_files": [],
            "tuned_name": ids.tuned_name(new.model, self._organization, new.suffix),
        }  # fmt: skip
        files = [file for file in (new.training_file, new.validation_file, new.test_file) if file]
        validation = new.validation_file or "none"
        events = [
            NewEvent(f"Created fine-tuning job: {id}"),
            NewEvent(f"Validating training file: {new.training_file} and validation file: {validation}"),
        ]
        with self._db.write() as connection:
            _hold_files(connection, new.project, files)
            connection.execute(insert(JOBS).values(row))
            insert_events(connection, id, events, now)
            return _get(connection, id, new.project)

    def get(self, id: str, project: str | None = None) -> Job:
        """Raises NotFound, also for another project's job; project None sees all."""
        with self._db.read() as connection:
            return _get(connection, id, project)

    def list(
        self,
        project: str | None = None,
        *,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = ANY,
        status: Sequence[str] = (),
    ) -> Page[Job]:
        """Newest first. `metadata` None asks for jobs without any."""
        with self._db.read() as connection:
            scope = [] if project is None else [JOBS.c.project == project]
            filters = has_metadata(connection, JOBS.c.metadata, metadata)
            if status:
                filters.append(JOBS.c.status.in_(status))
            return page(connection, JOBS, Job, scope=scope, filters=filters, after=after, limit=limit)

    def open_ids(self) -> frozenset[str]:
        """Of all jobs that have not ended."""
        with self._db.read() as connection:
            return frozenset(connection.execute(select(JOBS.c.id).where(JOBS.c.status.in_(OPEN))).scalars())

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._db.read() as connection:
            rows = connection.execute(select(JOBS.c.status, func.count().label("n")).group_by(JOBS.c.status))
            return {row.status: row.n for row in rows}

    # A user's moves: MoveRefused when the state does not allow it

    def request_pause(self, id: str, project: str | None = None) -> Job:
        """The worker sees `pause_requested`, makes a checkpoint and then pauses."""
        return self._move("request_pause", id, project=project, pause_requested=True)

    def resume(self, id: str, project: str | None = None) -> Job:
        return self._move("resume", id, project=project, pause_requested=False, attempts=0)

    def set_options(self, id: str, values: Mapping[str, Any], project: str | None = None) -> Job:
        """Change keys of a paused job's `pinetune` section (None takes one out); its next worker reads them."""
        with self._db.write() as connection:
            found = connection.execute(select(JOBS.c.body).where(JOBS.c.id == id).with_for_update()).scalar_one_or_none()
            body = found or {}
            own = {name: value for name, value in {**(body.get("pinetune") or {}), **values}.items() if value is not None}
            said = ", ".join(f"{name} {'without limit' if value is None else value}" for name, value in values.items())
            new = {"body": {**body, "pinetune": own}}
            return move(connection, MOVES["change"], id, self._db.now(), project=project, message=f"Changed: {said}", values=new)

    def cancel(self, id: str, project: str | None = None) -> Job:
        """At once, whoever works on it: the worker loses its lease with it. Checkpoints are kept."""
        return self._move("cancel", id, project=project)

    # A worker's moves: LeaseLost when it no longer holds the job

    def validated(self, lease: Lease) -> Job:
        return self._move("validated", lease.id, lease, attempts=0)

    def update(self, lease: Lease, **values: Any) -> None:
        """Set what a running job learns: hyperparameters, estimated_finish, trained_tokens, usage_metrics, eval_id, folder, ..."""
        wrong = set(values) - WORKER_SETS
        if wrong:
            raise TypeError(f"not a worker's to set: {', '.join(sorted(wrong))}")
        with self._db.write() as connection:
            lock_job(connection, lease, self._db.now())
            connection.execute(update(JOBS).where(JOBS.c.id == lease.id).values(values))

    def paused(self, lease: Lease, message: str = "") -> Job:
        """A checkpoint stands; pause was asked for, or the job cannot go on for the reason `message`."""
        return self._move("paused", lease.id, lease, message=message, pause_requested=False, estimated_finish=None)

    def succeed(
        self,
        lease: Lease,
        model: NewModel,
        trained_tokens: int,
        result_files: Sequence[str] = (),
        usage_metrics: Mapping[str, Any] | None = None,
    ) -> Job:
        """The end: the model is registered under the job's `tuned_name` in the same transaction."""
        values: dict[str, Any] = {
            "trained_tokens": trained_tokens,
            "result_files": list(result_files),
            "fine_tuned_model": JOBS.c.tuned_name,
        }
        if usage_metrics is not None:
            values["usage_metrics"] = dict(usage_metrics)
        return self._move("succeed", lease.id, lease, model=model, **values)

    def fail(self, lease: Lease, code: str, message: str, param: str | None = None) -> Job:
        return self._move("fail", lease.id, lease, message=message, error={"code": code, "message": message, "param": param})

    def release(self, lease: Lease) -> Job:
        """Hand the job back (the worker shuts down): to the queue, or to be validated by another. Not counted as an attempt."""
        move = "release" if self.get(lease.id).status == "validating_files" else "requeue"
        return self._move(move, lease.id, lease, attempts=0)

    def _move(
        self,
        name: str,
        id: str,
        lease: Lease | None = None,
        *,
        project: str | None = None,
        message: str = "",
        model: NewModel | None = None,
        **values: Any,
    ) -> Job:
        with self._db.write() as connection:
            job = move(connection, MOVES[name], id, self._db.now(), lease=lease, project=project, message=message, values=values)
            if model is not None:
                insert_model(connection, job.tuned_name, job.project, model, job.id, None, self._organization, self._db.now())
            return job


def move(
    connection: Connection,
    move: Move,
    id: str,
    now: float,
    *,
    lease: Lease | None = None,
    project: str | None = None,
    message: str = "",
    values: Mapping[str, Any] | None = None,
) -> Job:
    """One guarded UPDATE, its event, and the webhook of a job's end, in the caller's transaction.

    Raises NotFound, LeaseLost or MoveRefused, whichever explains best why no row passed the guard.
    """
    guard = [JOBS.c.id == id, JOBS.c.status.in_(move.sources)]
    if project is not None:
        guard.append(JOBS.c.project == project)
    if lease is not None:
        guard += held(JOBS, lease)
    new: dict[str, Any] = {"updated_at": now, **(values or {})}
    if move.target is not None:
        new["status"] = move.target
    if move.ends_lease:
        new |= ended(JOBS)
    if move.target in FINAL:
        new |= {"finished_at": now, "estimated_finish": None, "pause_requested": False}
    row = connection.execute(update(JOBS).where(*guard).values(new).returning(JOBS)).one_or_none()
    if row is None:
        raise _why_not(connection, move, id, lease, project)
    job = as_row(Job, row)
    events = [NewEvent(message or move.message, level=move.level)]
    if move.name == "succeed":
        events.insert(0, NewEvent(f"New fine-tuned model created: {job.fine_tuned_model}"))
    insert_events(connection, id, events, now)
    if job.is_final:
        enqueue(connection, job.project, f"fine_tuning.job.{job.status}", job.id, now)
    return job


def _why_not(connection: Connection, move: Move, id: str, lease: Lease | None, project: str | None) -> Exception:
    job = _get(connection, id, project)
    if lease is not None and connection.execute(select(JOBS.c.id).where(*held(JOBS, lease))).one_or_none() is None:
        return LeaseLost(f"Worker {lease.worker} no longer holds {id}, which is {job.status}")
    allowed = " or ".join(move.sources)
    verb = move.name.removeprefix("request_")
    return MoveRefused(f"Cannot {verb} job {id}: it is {job.status}, and must be {allowed}", job.status, verb)


def _get(connection: Connection, id: str, project: str | None) -> Job:
    row = connection.execute(select(JOBS).where(JOBS.c.id == id)).one_or_none()
    if row is None or (project is not None and row.project != project):
        raise NotFound("fine-tuning job", id)
    return as_row(Job, row)


def _hold_files(connection: Connection, project: str, files: Sequence[str]) -> None:
    """Nobody deletes these files before the job that needs them is stored."""
    where = (FILES.c.id.in_(files), FILES.c.project == project, FILES.c.deleted_at.is_(None))
    found = set(connection.execute(select(FILES.c.id).where(*where).with_for_update(read=True)).scalars())
    for file in files:
        if file not in found:
            raise NotFound("file", file)

"""Checkpoints of jobs: callable models with a step and numbers, and the projects that may use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from pinetune.errors import NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row, count
from pinetune.store.events import insert_events, lock_job
from pinetune.store.models import insert_model
from pinetune.store.paging import Order, columns, page
from pinetune.store.rows import Checkpoint, Lease, NewEvent, NewModel, Page, Permission
from pinetune.store.schema import Checkpoint as CheckpointTable
from pinetune.store.schema import Job as JobTable
from pinetune.store.schema import Model as ModelTable
from pinetune.store.schema import Permission as PermissionTable

CHECKPOINTS, JOBS, MODELS, PERMISSIONS = columns(CheckpointTable), columns(JobTable), columns(ModelTable), columns(PermissionTable)


class Checkpoints:
    """A checkpoint is stored after its files are whole; from then on its model can be called."""

    def __init__(self, database: Database, organization: str) -> None:
        self._db = database
        self._organization = organization

    def add(self, lease: Lease, step: int, model: NewModel, metrics: Mapping[str, Any]) -> Checkpoint:
        """Store the checkpoint of `step`, its model `ft:...:ckpt-step-N` and its event. Told again: only its numbers are replaced.

        A checkpoint is progress: the job's count of lost workers starts anew.
        """
        with self._db.write() as connection:
            now = self._db.now()
            lock_job(connection, lease, now)
            connection.execute(update(JOBS).where(JOBS.c.id == lease.id).values(attempts=0))
            where = (CHECKPOINTS.c.job_id == lease.id, CHECKPOINTS.c.step == step)
            values = {"folder": model.location, "metrics": dict(metrics), "deleted_at": None}
            if count(connection, update(CHECKPOINTS).where(*where).values(values)) == 0:
                self._insert(connection, lease.id, step, model, values, now)
            else:
                name = select(CHECKPOINTS.c.model).where(*where).scalar_subquery()
                moved = {"location": model.location, "kind": model.kind, "base": model.base, "deleted_at": None}
                connection.execute(update(MODELS).where(MODELS.c.id == name).values(moved))
            return as_row(Checkpoint, connection.execute(select(CHECKPOINTS).where(*where)).one())

    def list(self, job_id: str, *, after: str | None = None, limit: int = 10, order: Order = "desc") -> Page[Checkpoint]:
        """Highest step first unless `order` is "asc"."""
        with self._db.read() as connection:
            scope, kept = [CHECKPOINTS.c.job_id == job_id], [CHECKPOINTS.c.deleted_at.is_(None)]
            return page(connection, CHECKPOINTS, Checkpoint, scope=scope, filters=kept, after=after, limit=limit, order=order, by=("step",))

    def latest(self, job_id: str) -> Checkpoint | None:
        """Where a job goes on."""
        items = self.list(job_id, limit=1).items
        return items[0] if items else None

    def drop(self, lease: Lease, step: int) -> None:
        """Forget a checkpoint that is not kept (only the best stay); its folder is the caller's to remove afterwards."""
        with self._db.write() as connection:
            now = self._db.now()
            lock_job(connection, lease, now)
            where = (CHECKPOINTS.c.job_id == lease.id, CHECKPOINTS.c.step == step)
            connection.execute(update(CHECKPOINTS).where(*where).values(deleted_at=now))
            connection.execute(update(MODELS).where(MODELS.c.job_id == lease.id, MODELS.c.step == step).values(deleted_at=now))

    def _insert(self, connection: Connection, job_id: str, step: int, model: NewModel, values: Mapping[str, Any], now: float) -> None:
        job = connection.execute(select(JOBS.c.tuned_name, JOBS.c.project).where(JOBS.c.id == job_id)).one()
        name = ids.checkpoint_name(job.tuned_name, step)
        row = {"id": ids.new(ids.CHECKPOINT), "created_at": now, "job_id": job_id, "step": step, "model": name, **values}
        connection.execute(insert(CHECKPOINTS).values(row))
        insert_model(connection, name, job.project, model, job_id, step, self._organization, now)
        insert_events(connection, job_id, [NewEvent(f"Checkpoint created at step {step}", key=f"checkpoint-{step}")], now)

    # Who else may use a checkpoint or tuned model

    def permit(self, model: str, projects: Sequence[str], owner: str | None = None) -> tuple[Permission, ...]:
        """Let `projects` call the model, too. Raises NotFound when `owner` does not own it."""
        with self._db.write() as connection:
            _owned(connection, model, owner)
            where = (PERMISSIONS.c.checkpoint == model, PERMISSIONS.c.project.in_(projects))
            known = set(connection.execute(select(PERMISSIONS.c.project).where(*where)).scalars())
            for project in dict.fromkeys(projects):
                if project not in known:
                    row = {"id": ids.new(ids.PERMISSION), "created_at": self._db.now(), "checkpoint": model, "project": project}
                    connection.execute(insert(PERMISSIONS).values(row))
            rows = connection.execute(select(PERMISSIONS).where(*where).order_by(PERMISSIONS.c.seq))
            return tuple(as_row(Permission, row) for row in rows)

    def permissions(
        self,
        model: str,
        owner: str | None = None,
        *,
        project: str | None = None,
        after: str | None = None,
        limit: int = 10,
        order: Order = "desc",
    ) -> Page[Permission]:
        with self._db.read() as connection:
            _owned(connection, model, owner)
            scope = [PERMISSIONS.c.checkpoint == model]
            filters = [] if project is None else [PERMISSIONS.c.project == project]
            return page(connection, PERMISSIONS, Permission, scope=scope, filters=filters, after=after, limit=limit, order=order)

    def forbid(self, model: str, permission_id: str, owner: str | None = None) -> None:
        with self._db.write() as connection:
            _owned(connection, model, owner)
            where = (PERMISSIONS.c.checkpoint == model, PERMISSIONS.c.id == permission_id)
            if count(connection, delete(PERMISSIONS).where(*where)) == 0:
                raise NotFound("checkpoint permission", permission_id)


def _owned(connection: Connection, model: str, owner: str | None) -> None:
    row = connection.execute(select(MODELS.c.project).where(MODELS.c.id == model, MODELS.c.deleted_at.is_(None))).one_or_none()
    if row is None or row.project is None or (owner is not None and row.project != owner):
        raise NotFound("model", model)

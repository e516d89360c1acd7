"""Which models there are: registered bases, tuned models, checkpoints, and other names for them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, or_, select, update

from pinetune.errors import NotFound, StoreError
from pinetune.store.database import Database, as_row, count
from pinetune.store.paging import Conditions, columns
from pinetune.store.rows import Model, NewModel
from pinetune.store.schema import Alias as AliasTable
from pinetune.store.schema import Model as ModelTable
from pinetune.store.schema import Permission as PermissionTable

MODELS, ALIASES, PERMISSIONS = columns(ModelTable), columns(AliasTable), columns(PermissionTable)


class Models:
    """Models by id. A base belongs to everyone, a tuned model to its project; ids may hold slashes and colons."""

    def __init__(self, database: Database, aliases: Mapping[str, str]) -> None:
        self._db = database
        self._set_aliases = dict(aliases)  # from settings: they win over stored ones

    def register(self, id: str, location: str, *, owned_by: str = "pinetune") -> Model:
        """Make a local folder or hub id callable as the base model `id`; registered again, it moves to the new location."""
        now = self._db.now()
        row = {"project": None, "kind": "base", "location": location, "base": None, "owned_by": owned_by, "deleted_at": None}
        with self._db.write() as connection:
            old = connection.execute(select(MODELS).where(MODELS.c.id == id).with_for_update()).one_or_none()
            if old is None:
                connection.execute(insert(MODELS).values(id=id, created_at=now, **row))
            elif old.kind != "base":
                raise StoreError(f"{id} is the name of a tuned model; register the base under another")
            else:
                connection.execute(update(MODELS).where(MODELS.c.id == id).values(row))
            return _get(connection, id, None)

    def get(self, id: str, project: str | None = None) -> Model:
        """The model of exactly this id. Raises NotFound, also for another project's model without permission."""
        with self._db.read() as connection:
            return _get(connection, id, project)

    def resolve(self, name: str, project: str | None = None) -> Model:
        """The model that `name` or its alias stands for (one hop: an alias of an alias is not followed)."""
        with self._db.read() as connection:
            target = self._set_aliases.get(name)
            if target is None:
                target = connection.execute(select(ALIASES.c.target).where(ALIASES.c.name == name)).scalar()
            try:
                return _get(connection, target or name, project)
            except NotFound:
                raise NotFound("model", name) from None

    def list(self, project: str | None = None, *, checkpoints: bool = False) -> tuple[Model, ...]:
        """All models the project may call, oldest first; without checkpoints unless asked for."""
        with self._db.read() as connection:
            where: Conditions = [MODELS.c.deleted_at.is_(None)]
            if project is not None:
                shared = select(PERMISSIONS.c.checkpoint).where(PERMISSIONS.c.project == project)
                where.append(or_(MODELS.c.project.is_(None), MODELS.c.project == project, MODELS.c.id.in_(shared)))
            if not checkpoints:
                where.append(MODELS.c.step.is_(None))
            return tuple(as_row(Model, row) for row in connection.execute(select(MODELS).where(*where).order_by(MODELS.c.seq)))

    def delete(self, id: str, project: str | None = None) -> Model:
        """Hide the model; its folder is the caller's to remove. Raises NotFound for a model that is not the project's own."""
        with self._db.write() as connection:
            model = _get(connection, id, project)
            own = [MODELS.c.id == id, MODELS.c.deleted_at.is_(None)]
            if project is not None:
                own.append(MODELS.c.project == project)
            if count(connection, update(MODELS).where(*own).values(deleted_at=self._db.now())) == 0:
                raise NotFound("model", id)
            return model

    def set_alias(self, name: str, target: str) -> None:
        """`name` answers as `target` from now on."""
        with self._db.write() as connection:
            connection.execute(delete(ALIASES).where(ALIASES.c.name == name))
            connection.execute(insert(ALIASES).values(name=name, target=target))

    def remove_alias(self, name: str) -> None:
        with self._db.write() as connection:
            if count(connection, delete(ALIASES).where(ALIASES.c.name == name)) == 0:
                raise NotFound("alias", name)

    def aliases(self) -> dict[str, str]:
        """name -> model id; those of the settings win over stored ones."""
        with self._db.read() as connection:
            stored = {row.name: row.target for row in connection.execute(select(ALIASES))}
        return stored | self._set_aliases

    def locations(self) -> frozenset[str]:
        """Of all models that are not deleted: the folders that must stay."""
        with self._db.read() as connection:
            return frozenset(connection.execute(select(MODELS.c.location).where(MODELS.c.deleted_at.is_(None))).scalars())


def insert_model(
    connection: Connection, id: str, project: str, model: NewModel, job_id: str, step: int | None, owned_by: str, now: float
) -> None:
    row = {
        "id": id, "created_at": now, "project": project, "kind": model.kind, "location": model.location, "base": model.base,
        "job_id": job_id, "step": step, "owned_by": owned_by,
    }  # fmt: skip
    connection.execute(insert(MODELS).values(row))


def _get(connection: Connection, id: str, project: str | None) -> Model:
    row = connection.execute(select(MODELS).where(MODELS.c.id == id, MODELS.c.deleted_at.is_(None))).one_or_none()
    if row is None or not _may_call(connection, row.project, id, project):
        raise NotFound("model", id)
    return as_row(Model, row)


def _may_call(connection: Connection, owner: str | None, id: str, project: str | None) -> bool:
    if project is None or owner is None or owner == project:
        return True
    where = (PERMISSIONS.c.checkpoint == id, PERMISSIONS.c.project == project)
    return connection.execute(select(PERMISSIONS.c.id).where(*where)).first() is not None

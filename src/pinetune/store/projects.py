"""Projects and their API keys. A key is shown once; the store keeps its sha256, enough for 256 random bits."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import Connection, insert, or_, select, update

from pinetune.errors import NotFound
from pinetune.store import ids
from pinetune.store.database import Database, as_row, count
from pinetune.store.paging import columns
from pinetune.store.rows import ApiKey, Project
from pinetune.store.schema import ApiKey as KeyTable
from pinetune.store.schema import Project as ProjectTable

PROJECTS, KEYS = columns(ProjectTable), columns(KeyTable)
DEFAULT_PROJECT = "proj_default"
USED_SECONDS = 60.0  # last_used_at is this exact: a write per request would make every read a write


class Projects:
    """Whose things are whose. `proj_default` always exists."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, name: str) -> Project:
        with self._db.write() as connection:
            return _insert_project(connection, ids.new(ids.PROJECT), name, self._db.now())

    def ensure_default(self) -> Project:
        with self._db.write() as connection:
            row = connection.execute(select(PROJECTS).where(PROJECTS.c.id == DEFAULT_PROJECT)).one_or_none()
            return as_row(Project, row) if row else _insert_project(connection, DEFAULT_PROJECT, "default", self._db.now())

    def get(self, id: str) -> Project:
        with self._db.read() as connection:
            row = connection.execute(select(PROJECTS).where(PROJECTS.c.id == id)).one_or_none()
        if row is None:
            raise NotFound("project", id)
        return as_row(Project, row)

    def list(self) -> tuple[Project, ...]:
        with self._db.read() as connection:
            return tuple(as_row(Project, row) for row in connection.execute(select(PROJECTS).order_by(PROJECTS.c.seq)))


class Keys:
    """API keys by project."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, name: str = "", project: str = DEFAULT_PROJECT) -> tuple[ApiKey, str]:
        """A new key and its secret, `sk-pt-...`: shown now and never again."""
        secret = f"sk-pt-{secrets.token_urlsafe(32)}"
        row = {
            "id": ids.new(ids.KEY), "created_at": self._db.now(), "project": project, "name": name, "prefix": secret[:12],
            "hash": _hash(secret),
        }  # fmt: skip
        with self._db.write() as connection:
            if connection.execute(select(PROJECTS.c.id).where(PROJECTS.c.id == project)).one_or_none() is None:
                raise NotFound("project", project)
            return as_row(ApiKey, connection.execute(insert(KEYS).values(row).returning(KEYS)).one()), secret

    def check(self, secret: str) -> ApiKey | None:
        """The key that is not revoked, or None. Looked up by hash, so timing tells nothing of the secret."""
        now = self._db.now()
        with self._db.read() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.hash == _hash(secret), KEYS.c.revoked_at.is_(None))).one_or_none()
        if row is None:
            return None
        stale = or_(KEYS.c.last_used_at.is_(None), KEYS.c.last_used_at < now - USED_SECONDS)
        if row.last_used_at is None or row.last_used_at < now - USED_SECONDS:
            with self._db.write() as connection:
                connection.execute(update(KEYS).where(KEYS.c.id == row.id, stale).values(last_used_at=now))
        return as_row(ApiKey, row)

    def list(self, project: str | None = None) -> tuple[ApiKey, ...]:
        """Revoked ones, too, oldest first."""
        with self._db.read() as connection:
            where = [] if project is None else [KEYS.c.project == project]
            return tuple(as_row(ApiKey, row) for row in connection.execute(select(KEYS).where(*where).order_by(KEYS.c.seq)))

    def revoke(self, id_or_prefix: str) -> None:
        """By id or by the shown prefix. Raises NotFound when no key that still works fits."""
        with self._db.write() as connection:
            where = (or_(KEYS.c.id == id_or_prefix, KEYS.c.prefix == id_or_prefix), KEYS.c.revoked_at.is_(None))
            if count(connection, update(KEYS).where(*where).values(revoked_at=self._db.now())) == 0:
                raise NotFound("API key", id_or_prefix)

    def any(self) -> bool:
        """Whether there is a key that works: without one, a server off loopback would be open to all."""
        with self._db.read() as connection:
            return connection.execute(select(KEYS.c.id).where(KEYS.c.revoked_at.is_(None)).limit(1)).one_or_none() is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _insert_project(connection: Connection, id: str, name: str, now: float) -> Project:
    return as_row(Project, connection.execute(insert(PROJECTS).values(id=id, created_at=now, name=name).returning(PROJECTS)).one())

"""Brings a database to this version's schema. Programs that start together do it one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from pinetune.errors import StoreError
from pinetune.store.database import Database
from pinetune.store.schema import VERSION

SCRIPTS = Path(__file__).parent / "migrations"
LOCK = 0x70696E65  # PostgreSQL's advisory locks are numbers; ours says "pine"


def upgrade(database: Database) -> None:
    """Run the missing migrations in one transaction that excludes all other writers. Raises StoreError on a newer database."""
    with database.read() as connection:
        if _version(connection) == VERSION:
            return
    with database.write() as connection:
        if not database.is_sqlite:  # SQLite's BEGIN IMMEDIATE is lock enough
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        found = _version(connection)
        if found == VERSION:
            return
        if found is not None and not any(SCRIPTS.glob(f"versions/*{found}_*.py")):
            raise StoreError(
                f"The database was written by a newer Pinetune (schema {found}; this one knows {VERSION}): "
                "install the newer Pinetune again, or name another home with --home"
            )
        _run(connection)


def config(connection: Connection) -> Any:
    from alembic.config import Config

    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def _run(connection: Connection) -> None:
    from alembic import command  # imported late: most starts find nothing to do

    command.upgrade(config(connection), "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)

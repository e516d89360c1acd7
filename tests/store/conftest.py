"""A store on a real database file (SQLite; PostgreSQL, too, where PINETUNE_TEST_POSTGRES_URL names a server) with our own clock."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pinetune.settings import Settings
from pinetune.store import NewJob, Store

POSTGRES = os.environ.get("PINETUNE_TEST_POSTGRES_URL", "")


@dataclass
class Clock:
    """Time that passes only when a test says so."""

    time: float = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to be copied: migrating anew for each test would take most of the tests' time."""
    home = tmp_path_factory.mktemp("migrated")
    Store.open(Settings.read({}, home=home), now=Clock()).close()
    return home / "pinetune.db"


@contextmanager
def postgres_database(template: str) -> Iterator[str]:
    """A database of its own on the test server, by name; gone afterwards."""
    name = f"pinetune_test_{secrets.token_hex(6)}"
    server = create_engine(POSTGRES.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield name
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def at(name: str) -> str:
    return POSTGRES.rsplit("/", 1)[0] + f"/{name}"


@pytest.fixture(scope="session")
def migrated_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same as a PostgreSQL template."""
    with postgres_database("template1") as name:
        Store.open(Settings.read({}, home=tmp_path_factory.mktemp("migrated"), database_url=at(name)), now=Clock()).close()
        yield name


@pytest.fixture(params=["sqlite", "postgres"] if POSTGRES else ["sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[Settings]:
    if request.param == "sqlite":
        shutil.copy(migrated, tmp_path / "pinetune.db")
        yield Settings.read({}, home=tmp_path, busy_seconds=5)
        return
    with postgres_database(request.getfixturevalue("migrated_postgres")) as name:
        yield Settings.read({}, home=tmp_path, busy_seconds=5, database_url=at(name))


@pytest.fixture
def store(settings: Settings, clock: Clock) -> Iterator[Store]:
    with Store.open(settings, now=clock) as opened:
        yield opened


@pytest.fixture
def new_job(store: Store) -> Callable[..., NewJob]:
    """Makes job bodies on a file that is there."""
    file = store.files.create("proj_default", "fine-tune", "train.jsonl", b'{"messages": []}\n')

    def make(**changes: object) -> NewJob:
        fields = {"project": "proj_default", "model": "pinetune-mini", "method": "reinforcement", "body": {"model": "pinetune-mini"}}
        return NewJob(**{**fields, "training_file": file.id, "seed": 1, **changes})  # type: ignore[arg-type]

    return make

"""The schema: migrations give exactly the tables of `schema.py`, once, whoever comes first; newer databases are refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from pinetune.errors import StoreError
from pinetune.settings import Settings
from pinetune.store import Store, migrate
from pinetune.store.database import Database
from pinetune.store.schema import VERSION, Base


def test_migrations_give_the_schema(store: Store) -> None:
    with store.database.write() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata) == []
        assert ScriptDirectory.from_config(migrate.config(connection)).get_heads() == [VERSION]


def test_a_newer_database_is_refused(store: Store, settings: Settings) -> None:
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=f"written by a newer Pinetune .schema 9999; this one knows {VERSION}"):
        Store.open(settings)
    with store.database.write() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{VERSION}'"))
    Store.open(settings).close()


def test_programs_that_start_together_migrate_once(tmp_path: Path) -> None:
    opened: list[Store] = []
    gate = threading.Barrier(4)

    def start() -> None:
        gate.wait()
        opened.append(Store.open(Settings.read({}, home=tmp_path, busy_seconds=120)))  # each waits for the one that migrates

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    assert [project.id for project in opened[0].projects.list()] == ["proj_default"]
    for store in opened:
        store.close()


def test_a_migration_killed_half_way_leaves_an_empty_database(tmp_path: Path) -> None:
    program = """
import os, sys
from alembic.operations import Operations
from pinetune.settings import Settings
from pinetune.store import Store
make = Operations.create_table
def killed(self, name, *rest, **options):
    if name == "jobs":
        os.kill(os.getpid(), 9)
    return make(self, name, *rest, **options)
Operations.create_table = killed
Store.open(Settings.read({}, home=sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -9
    found = sqlite3.connect(tmp_path / "pinetune.db")
    assert found.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall() == []
    found.close()
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        assert store.jobs.counts() == {}


def test_a_database_of_the_first_schema_keeps_its_jobs(tmp_path: Path) -> None:
    from alembic import command

    settings = Settings.read({}, home=tmp_path)
    database = Database(settings.database_url)
    old = {
        "id": "ftjob-old", "created_at": 1.0, "updated_at": 1.0, "project": "proj_default", "status": "running", "model": "m",
        "method": "reinforcement", "body": {}, "training_file": "file-1", "seed": 1, "tuned_name": "ft:m", "result_files": [],
    }  # fmt: skip
    with database.write() as connection:
        command.upgrade(migrate.config(connection), "0001")
        connection.execute(Base.metadata.tables["jobs"].insert().values(old))
    database.close()
    with Store.open(settings) as store:
        job = store.jobs.get("ftjob-old")
        assert (job.status, job.training_file, job.snapshot) == ("running", "file-1", None)


def test_a_new_home_is_its_owner_s_alone(tmp_path: Path) -> None:
    Store.open(Settings.read({}, home=tmp_path / "new" / "home")).close()
    assert (tmp_path / "new" / "home").stat().st_mode & 0o777 == 0o700

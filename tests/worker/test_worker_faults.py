"""A locked database, a server that is away, a full disk: the job waits or pauses, says why, and nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import child_of, messages, new_job, steps_told, wait_until
from postgres_server import PostgresServer
from tiny_models import save_tiny

from pinetune.errors import StoreError
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.worker.run import Pace, run_worker  # noqa: F401  (imported here, before the disk is full)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_locked_database_only_delays(store: Store, settings: Settings, tiny: str, working: Callable[..., Any]) -> None:
    job = new_job(store, own={"steps": 12})
    working(pace=Pace(lease=60, idle=0.05, grace=30))
    wait_until(lambda: store.jobs.get(job.id).step >= 2)
    lock = sqlite3.connect(settings.home / "pinetune.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    time.sleep(settings.busy_seconds + 2)  # longer than a writer waits: it is told "locked"
    lock.execute("ROLLBACK")
    lock.close()
    wait_until(lambda: store.jobs.get(job.id).is_final)
    assert store.jobs.get(job.id).status == "succeeded"
    assert steps_told(store, job) == [f"Step {n}/12" for n in range(13)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """40 MB of memory mounted as a disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()}); run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    on_small_disk = "small_disk" in request.fixturenames
    home = request.getfixturevalue("small_disk") / "home" if on_small_disk else tmp_path / "home"
    url = request.getfixturevalue("postgres").url if "postgres" in request.fixturenames else None
    return Settings.read({}, home=home, database_url=url, busy_seconds=3)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg")
    with PostgresServer() as server:
        yield server


def fill(filler: Any) -> bool:
    """To the last byte, also of what was given free since last time."""
    for size in (1 << 20, 4096, 1):
        try:
            while filler.write(b"x" * size) == size:
                pass
        except OSError:
            continue
    return True


def test_a_full_disk_pauses_and_nothing_is_lost(
    small_disk: Path, store: Store, settings: Settings, tmp_path: Path, working: Callable[..., Any]
) -> None:
    store.models.register("tiny", str(save_tiny(tmp_path / "tiny")))
    job = new_job(store, own={"steps": 16})
    working(pace=Pace(lease=8, idle=0.2, grace=30))
    wait_until(lambda: store.jobs.get(job.id).step >= 3)
    before = store.events.since(job.id, 0)
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        # The child's write fails, or the lease is lost first, as nothing renews it; either way the child ends.
        wait_until(lambda: fill(filler) and not child_of(settings, job))
    (small_disk / "filler").unlink()

    def ended() -> bool:
        try:
            now = store.jobs.get(job.id)
            if now.status == "paused":
                store.jobs.resume(job.id)
        except StoreError:
            return False
        return now.is_final

    wait_until(ended)
    assert store.jobs.get(job.id).status == "succeeded", store.jobs.get(job.id).error
    assert store.events.since(job.id, 0)[: len(before)] == before
    assert steps_told(store, job) == [f"Step {n}/16" for n in range(17)]
    told = messages(store, job)
    assert any("disk" in m and "full" in m for m in told) or any(m.startswith("The worker stopped reporting") for m in told)


def test_a_database_server_that_is_away_for_longer_than_a_lease(
    postgres: PostgresServer, store: Store, settings: Settings, tiny: str, working: Callable[..., Any]
) -> None:
    job = new_job(store, own={"steps": 16})
    working(pace=Pace(lease=8, idle=0.2, grace=30))
    wait_until(lambda: store.jobs.get(job.id).step >= 3)
    before = store.events.since(job.id, 0)
    postgres.stop()
    os.kill(child_of(settings, job), signal.SIGSTOP)  # a fast machine would end the job before its lease does
    wait_until(lambda: not child_of(settings, job))  # another worker, which still reaches the server, may hold the job by now
    postgres.start()
    wait_until(lambda: store.jobs.get(job.id).is_final)
    assert store.jobs.get(job.id).error is None
    assert store.events.since(job.id, 0)[: len(before)] == before
    assert steps_told(store, job) == [f"Step {n}/16" for n in range(17)]
    assert "The worker stopped reporting, moving job to queued state" in messages(store, job)

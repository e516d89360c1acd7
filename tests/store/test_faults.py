"""Full disks, locked databases, killed writers: a clear error, nothing half-written, nothing acknowledged lost."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinetune.errors import StoreBusy, StoreError, StoreFull
from pinetune.settings import Settings
from pinetune.store import NewEvent, NewJob, Store

ME = "proj_default"
WRITER = """
import sys
from pinetune.settings import Settings
from pinetune.store import NewEvent, NewJob, NewModel, Store
home, first = sys.argv[1], int(sys.argv[2])
with Store.open(Settings.read({}, home=home)) as store:
    store.leases.expire()
    job, lease = store.leases.claim("w", 0)
    if job.status == "validating_files":
        store.jobs.validated(lease)
        job, lease = store.leases.claim("w", 0)
    for i in range(first, 100_000):
        # the same two events and numbers again after a kill, as a resumed child tells them
        store.events.append(lease, [NewEvent(f"a{i}", key=f"a{i}"), NewEvent(f"b{i}", key=f"b{i}")])
        store.events.put_metrics(lease, i, {"reward": i})
        file = store.files.create("proj_default", "evals", f"f{i}", str(i).encode() * 1000)
        store.checkpoints.add(lease, i, NewModel("adapter", f"/c/{i}"), {})
        print(i, file.id, flush=True)  # acknowledged
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """3 MB of memory mounted as a disk."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()}); run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_locked_database_is_busy_and_then_works_again(tmp_path: Path) -> None:
    settings = Settings.read({}, home=tmp_path, busy_seconds=0.05)
    with Store.open(settings) as store:
        file = store.files.create(ME, "fine-tune", "a", b"x")
        job = store.jobs.create(NewJob(ME, "m", "reinforcement", {}, file.id, 1))
        with Store.open(settings) as reader:
            other = sqlite3.connect(tmp_path / "pinetune.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            writes: list[Callable[[], object]] = [
                lambda: store.jobs.cancel(job.id),
                lambda: store.events.append(job.id, [NewEvent("a"), NewEvent("b")]),
                lambda: store.files.create(ME, "fine-tune", "b", b"y"),
                lambda: store.files.delete(file.id),
                lambda: store.leases.claim("w", 60),
            ]
            for write in writes:
                with pytest.raises(StoreBusy, match=r"locked by another process for over 0\.05 s; try again"):
                    write()
            assert reader.jobs.get(job.id) == job  # readers go on
            other.execute("ROLLBACK")
            other.close()
        assert store.jobs.get(job.id) == job
        assert len(store.events.since(job.id, 0)) == 2
        assert [f.id for f in store.files.list().items] == [file.id]
        assert len(list((tmp_path / "files" / "blobs").iterdir())) == 1
        assert store.jobs.cancel(job.id).status == "cancelled"


def test_a_database_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    with Store.open(Settings.read({}, home=small_disk)) as store:
        file = store.files.create(ME, "fine-tune", "a", b"x")
        job = store.jobs.create(NewJob(ME, "m", "reinforcement", {}, file.id, 1))
        stored = 2
        with pytest.raises(StoreFull, match="disk that holds the database is full; nothing was stored"):
            for i in range(10_000):
                store.events.append(job.id, [NewEvent("x" * 20_000, key=f"{i}-{part}") for part in "ab"])
                stored += 2
        assert len(store.events.since(job.id, 0, limit=10_000)) == stored > 20
        with pytest.raises(StoreFull):
            store.files.create(ME, "fine-tune", "big", [b"y" * 1_000_000] * 5)
        assert [f.id for f in store.files.list().items] == [file.id]
        assert [path.name for path in (small_disk / "files").rglob("*") if path.is_file()] == [file.id]
        subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
        assert store.events.append(job.id, [NewEvent("there is room again")]) == 1
    check = sqlite3.connect(small_disk / "pinetune.db")
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


@pytest.mark.slow
def test_kill_minus_nine_of_a_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        file = store.files.create(ME, "fine-tune", "a", b"x")
        job = store.jobs.create(NewJob(ME, "m", "reinforcement", {}, file.id, 1))
        acknowledged: dict[int, str] = {}
        for _ in range(int(os.environ.get("PINETUNE_TEST_KILLS", "6"))):
            _run_and_kill(tmp_path, acknowledged, rng.randint(1, 12), rng.random() * 0.03)
            _check(store, tmp_path, job.id, acknowledged)
        assert len(acknowledged) >= 15


def _run_and_kill(home: Path, acknowledged: dict[int, str], rounds: int, pause: float) -> None:
    """Let a writer acknowledge some rounds, then kill it at a random moment of a later one."""
    first = max(acknowledged, default=0)  # a resumed child tells its last step again
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(home), str(first)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(rounds):
        number, file = writer.stdout.readline().split()
        acknowledged[int(number)] = file
    time.sleep(pause)
    os.kill(writer.pid, signal.SIGKILL)
    for line in writer.stdout.read().splitlines():
        if re.fullmatch(r"\d+ file-\w{22}", line):
            acknowledged[int(line.split()[0])] = line.split()[1]
    writer.wait()
    writer.stdout.close()


def _check(store: Store, home: Path, job_id: str, acknowledged: dict[int, str]) -> None:
    check = sqlite3.connect(home / "pinetune.db")
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()
    events = store.events.since(job_id, 0, limit=10**6)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    told = [event.message for event in events if re.fullmatch(r"[ab]\d+", event.message)]
    assert len(told) == len(set(told))
    assert told == [f"{part}{i}" for i in range(len(told) // 2) for part in "ab"]
    steps = [metric.step for metric in store.events.metrics(job_id)]
    checkpoints = [c.step for c in store.checkpoints.list(job_id, limit=10**6, order="asc").items]
    assert steps == list(range(len(steps))) and checkpoints == list(range(len(checkpoints)))
    last = max(acknowledged)
    assert min(len(steps), len(checkpoints), len(told) // 2) > last
    for number, file in acknowledged.items():
        with store.files.open(file) as stream:
            assert stream.read() == str(number).encode() * 1000


def test_a_home_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match="cannot make the home folder"):
        Store.open(Settings.read({}, home=tmp_path / "taken"))
    (tmp_path / "pinetune.db").write_bytes(b"this is not a database, but something else entirely" * 100)
    with pytest.raises(StoreError, match="database file cannot be used"):
        Store.open(Settings.read({}, home=tmp_path))


def test_a_server_that_does_not_answer_is_said(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"does not answer .* check PINETUNE_DATABASE_URL"):
        Store.open(Settings.read({}, home=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none"))

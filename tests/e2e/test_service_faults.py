"""A whole service whose disk fills up, whose database is locked, or whose database server goes away, while a job runs and files come:
every request is told what is wrong, nothing that was acknowledged is lost, and the job ends once the trouble is over.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from postgres_server import PostgresServer
from service_process import Service, small_job, wait_until
from tiny_models import save_tiny

from pinetune.store import Job, Store
from pinetune.store.rows import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
STEPS = 16
PATIENCE = 600  # seconds: a busy machine must not decide what passes
CONTENT = b'{"messages": []}\n' * 20_000


def upload(service: Service) -> httpx.Response:
    return httpx.post(
        f"{service.url}/files", files={"file": ("u.jsonl", CONTENT)}, data={"purpose": "fine-tune"}, timeout=PATIENCE
    )  # fmt: skip


def refusal(reply: httpx.Response) -> tuple[int, str]:
    """Its status and code, in OpenAI's envelope."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "server_error"
    return reply.status_code, error["code"]


class Scene:
    """A service with a job that got going, and a file that was acknowledged."""

    def __init__(self, service: Service, store: Store, folder: Path) -> None:
        self.service, self.store = service, store
        store.models.register("tiny", str(save_tiny(folder / "tiny")))
        self.job: Job = small_job(store, STEPS)
        wait_until(lambda: store.jobs.get(self.job.id).step >= 3, PATIENCE)
        reply = upload(service)
        assert reply.status_code == 200, reply.text
        self.kept = str(reply.json()["id"])
        self.told: tuple[Event, ...] = store.events.since(self.job.id, 0)
        self.files = {file.id for file in store.files.list().items}

    def logged(self, *words: str) -> bool:
        """In one line."""
        return any(all(word in line for word in words) for line in self.service.log.read_text().splitlines())

    def ends_well(self) -> None:
        """The trouble is over: the job succeeds, everything is there, once, and new files come in."""
        wait_until(self._is_over, PATIENCE)
        job = self.store.jobs.get(self.job.id)
        assert (job.status, job.error) == ("succeeded", None)
        events = self.store.events.since(job.id, 0)
        assert events[: len(self.told)] == self.told
        assert [event.position for event in events] == list(range(1, len(events) + 1))
        trained = [e.message for e in events if e.message.startswith("Step ") and ("train mean" in e.message or "Step 0/" in e.message)]
        assert [text.split(" ,")[0] for text in trained] == [f"Step {n}/{STEPS}" for n in range(STEPS + 1)]
        assert self.files < {file.id for file in self.store.files.list().items}
        assert b"".join(self.store.files.chunks(self.kept)) == CONTENT
        assert upload(self.service).status_code == 200

    def _is_over(self) -> bool:
        job = self.store.jobs.get(self.job.id)
        if job.status == "paused":  # as a person would, who has read why
            self.store.jobs.resume(job.id)
        return job.is_final


def test_a_locked_database_is_said_and_passes(tmp_path: Path) -> None:
    service = Service(tmp_path / "home", PINETUNE_BUSY_SECONDS="1")
    with service, service.store() as store:
        scene = Scene(service, store, tmp_path)
        lock = sqlite3.connect(tmp_path / "home" / "pinetune.db", isolation_level=None, timeout=PATIENCE)
        lock.execute("BEGIN IMMEDIATE")
        reply = upload(service)
        assert refusal(reply) == (503, "storage_busy") and int(reply.headers["retry-after"]) > 0
        assert httpx.get(f"{service.url}/fine_tuning/jobs/{scene.job.id}", timeout=PATIENCE).status_code == 200  # readers go on
        lock.execute("ROLLBACK")
        lock.close()
        assert {file.id for file in store.files.list().items} == scene.files
        scene.ends_well()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """60 MB of memory mounted as a disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()}); run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path, tmp_path: Path) -> None:
    service = Service(small_disk / "home")
    service.log = tmp_path / "service.log"
    with service, service.store() as store:
        scene = Scene(service, store, tmp_path)
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            wait_until(lambda: fill(filler) and not service.pids("child"), PATIENCE)  # the job's process has met it
            assert fill(filler) and refusal(upload(service)) == (507, "storage_full")
            assert service.answers()
        assert {file.id for file in store.files.list().items} == scene.files
        (small_disk / "filler").unlink()
        scene.ends_well()


def fill(filler: Any) -> bool:
    """To the last byte, also of what was given free since last time."""
    for size in (1 << 20, 4096, 1):
        try:
            while filler.write(b"x" * size) == size:
                pass
        except OSError:
            continue
    return True


def test_a_database_server_that_crashes_and_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with PostgresServer() as server:
        service = Service(tmp_path / "home", PINETUNE_DATABASE_URL=server.url)
        with service, service.store() as store:
            scene = Scene(service, store, tmp_path)
            server.stop()
            reply = upload(service)
            assert refusal(reply) == (503, "storage_unavailable") and int(reply.headers["retry-after"]) > 0
            assert refusal(httpx.get(f"{service.url[:-3]}/healthz", timeout=PATIENCE)) == (503, "storage_unavailable")
            wait_until(lambda: scene.logged('"pinetune.worker"', "The database does not answer"), PATIENCE)
            server.start()
            assert {file.id for file in store.files.list().items} == scene.files
            scene.ends_well()

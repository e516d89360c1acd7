"""Two workers, each a process with a home of its own, on one database: no job twice, and none lost with its worker."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinetune.runs.folder import RunFolder
from pinetune.settings import Settings
from pinetune.store import Job, Store
from tests.worker.conftest import messages, new_job, wait_for, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]
WORKER = """
import sys, threading
from pinetune.settings import Settings
from pinetune.worker.run import Pace, run_worker
name, home, database, files, lease = sys.argv[1:]
settings = Settings.read({}, home=home, database_url=database, files_url=files, busy_seconds=30)
run_worker(settings, threading.Event(), name=name, pace=Pace(lease=float(lease), idle=0.05))
"""
PATIENCE = 800  # seconds: each worker's child imports torch


@pytest.fixture
def real(settings: Settings, tmp_path: Path) -> Iterator[Store]:
    """The store of `settings` with the real clock and a tiny model."""
    from tiny_models import save_tiny

    with Store.open(settings) as store:
        store.models.register("tiny", str(save_tiny(tmp_path / "tiny")))
        yield store


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a worker by name; its home is the folder of that name."""
    started = []

    def begin(name: str, lease: float = 60.0) -> subprocess.Popen[bytes]:
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", WORKER, name, str(tmp_path / name), settings.database_url, settings.files_url, str(lease)]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def homes_that_ran(tmp_path: Path, job_id: str) -> list[str]:
    return [name for name in ("a", "b") if (tmp_path / name / "jobs" / job_id / "run" / "job.json").exists()]


def test_no_job_is_run_twice(real: Store, start: Callable[[str], object], tmp_path: Path) -> None:
    jobs = [new_job(real) for _ in range(3)]
    start("a")
    start("b")
    for job in jobs:
        assert wait_for(real, job, "succeeded", "failed", seconds=PATIENCE).error is None
        said = Counter(messages(real, job))
        assert said["Fine-tuning job started"] == 1 and max(said.values()) == 1
        assert len(homes_that_ran(tmp_path, job.id)) == 1


def test_what_a_vanished_worker_left_the_other_finishes_from_its_last_checkpoint(
    real: Store, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    whole, job = new_job(real, own={"steps": 40}), new_job(real, own={"steps": 40})
    first = start("a", lease=15.0)  # so long must it be missed, and so long may it be slow
    wait_until(lambda: any(said.startswith("Step 4/40") for said in messages(real, job)), PATIENCE)
    snapshot = wait_until(lambda: real.jobs.get(job.id).snapshot, PATIENCE)
    first.kill()
    first.wait()
    assert real.jobs.get(job.id).status == "running"  # nobody has noticed yet
    start("b")
    done = wait_for(real, job, "succeeded", "failed", seconds=PATIENCE)
    assert done.error is None and homes_that_ran(tmp_path, job.id) == ["a", "b"]
    said = messages(real, job)
    assert said.count("The worker stopped reporting, moving job to queued state") == 1
    steps = [text.split("/")[0] for text in said if text.startswith("Step ")]
    assert steps == [f"Step {number}" for number in range(0, 41)]  # none lost, none doubled
    assert said[-1] == "The job has successfully completed"
    assert resumed_at(tmp_path / "b", job.id) >= int(snapshot.split("-run-")[1].split("-")[0]) > 0
    assert weights(real, job) == weights(real, whole)
    told = [real.checkpoints.list(one.id, limit=100).items for one in (whole, job)]
    assert [(c.step, c.metrics) for c in told[0]] == [(c.step, c.metrics) for c in told[1]]
    handed_over = Path(real.settings.files_url) / "folders"
    wait_until(lambda: not list(handed_over.glob("*-run-*")), PATIENCE)  # needed by nobody any more, it goes after the job's end


def resumed_at(home: Path, job_id: str) -> int:
    """The step from which the child in `home` went on."""
    said = [event["message"] for event in RunFolder(home / "jobs" / job_id / "run").read_events()]
    return int(next(text for text in said if text.startswith("Resumed at step ")).removeprefix("Resumed at step "))


def weights(store: Store, job: Job) -> bytes:
    name = store.jobs.get(job.id).fine_tuned_model
    assert name is not None
    return (store.folders.path(store.models.resolve(name).location) / "model.safetensors").read_bytes()

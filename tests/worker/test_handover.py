"""A run folder handed over through the store's files: whole, only what changed, and never by who no longer holds the job."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import new_job

from pinetune.settings import Settings
from pinetune.store import Job, Lease, Store
from pinetune.training.checkpoint import write_manifest
from pinetune.worker.folder import JobFolder
from pinetune.worker.handover import Handover


@pytest.fixture(params=["shared folder", "memory"])
def far(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Store]:
    """A store whose files lie outside of every home."""
    url = str(tmp_path / "shared") if request.param == "shared folder" else f"memory://{uuid.uuid4().hex}"
    with Store.open(Settings.read({}, home=settings.home, files_url=url)) as store:
        yield store


def claim(store: Store, worker: str) -> tuple[Job, Lease]:
    found = store.leases.claim(worker, 60, ("queued",))
    assert found is not None
    return found


def started(store: Store) -> tuple[Job, Lease]:
    new_job(store)
    found = store.leases.claim("a", 60)
    assert found is not None
    store.jobs.validated(found[1])
    return claim(store, "a")


def step(folder: JobFolder, number: int) -> None:
    """As the child leaves it: records first, then a checkpoint of it."""
    run = folder.run
    run.write_job({"sha256": "x"})
    run.put_metrics(number, {"train_loss": number / 10})
    run.append_event("info", f"Checkpoint created at step {number}", {"step": number})
    run.rollouts.mkdir(exist_ok=True)
    (run.rollouts / f"step-{number:05d}.parquet").write_bytes(b"rollouts %d" % number)

    checkpoint = run.checkpoint(number)
    (checkpoint / "learner").mkdir(parents=True)
    (checkpoint / "learner" / "state.pt").write_bytes(b"weights %d" % number)
    (checkpoint / "loop.json").write_text(json.dumps({"step": number}))
    write_manifest(checkpoint, number)


def content(folder: JobFolder) -> dict[str, bytes]:
    run = folder.run.path
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def hand_over(handover: Handover) -> None:
    handover.offer()
    handover.close()


def test_another_home_gets_all_of_it_and_only_changes_travel(far: Store, tmp_path: Path) -> None:
    job, lease = started(far)
    here, there = JobFolder.of(tmp_path / "a", job.id), JobFolder.of(tmp_path / "b", job.id)
    handover = Handover(far, lease, job, here, tmp_path / "a")
    handover.restore()
    hand_over(handover)
    assert far.jobs.get(job.id).snapshot is None  # no checkpoint yet
    step(here, 1)
    hand_over(handover)
    first = far.jobs.get(job.id).snapshot
    hand_over(handover)
    assert first is not None and far.jobs.get(job.id).snapshot == first  # nothing new, nothing sent
    step(here, 2)
    hand_over(handover)
    second = far.jobs.get(job.id).snapshot
    assert second is not None
    folder = far.folders.path(second)
    sent = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"published.json"}
    checkpoint = {f"checkpoints/step-00002/{name}" for name in ("learner/state.pt", "loop.json", "manifest.json")}
    assert sent == checkpoint | {"job.json", "metrics.jsonl", "events.jsonl", "rollouts/step-00002.parquet", "index.json"}

    far.leases.abandon("a")
    job, lease = claim(far, "b")
    (there.run.path / "rollouts").mkdir(parents=True)
    (there.run.path / "rollouts" / "step-00009.parquet").write_bytes(b"of an attempt before it")
    other = Handover(far, lease, job, there, tmp_path / "b")
    other.restore()
    assert content(there) == content(here)
    hand_over(other)
    assert far.jobs.get(job.id).snapshot == second  # what was fetched is not sent back


def test_who_is_further_on_keeps_its_own_and_who_lost_the_job_is_refused(far: Store, tmp_path: Path) -> None:
    job, lease = started(far)
    here, there = JobFolder.of(tmp_path / "a", job.id), JobFolder.of(tmp_path / "b", job.id)
    late = Handover(far, lease, job, here, tmp_path / "a")
    step(here, 1)
    hand_over(late)
    step(there, 1)
    step(there, 2)
    far.leases.abandon("a")
    job, lease = claim(far, "b")
    other, before = Handover(far, lease, job, there, tmp_path / "b"), content(there)
    other.restore()
    assert content(there) == before
    step(here, 3)
    hand_over(late)  # only said in the log
    hand_over(other)
    index = tmp_path / "index"
    far.folders.copy_file(str(far.jobs.get(job.id).snapshot), "index.json", index)
    assert json.loads(index.read_text())["step"] == 2


def test_checkpoints_that_went_are_no_longer_kept_and_the_end_leaves_nothing(far: Store, tmp_path: Path) -> None:
    job, lease = started(far)
    here = JobFolder.of(tmp_path / "a", job.id)
    handover = Handover(far, lease, job, here, tmp_path / "a")
    for number in (1, 2):
        step(here, number)
        hand_over(handover)
    shutil.rmtree(here.run.checkpoint(1))
    (here.run.rollouts / "step-00001.parquet").unlink()
    step(here, 3)
    hand_over(handover)
    stored = listed(far)
    assert len(stored) == 2  # steps 2 and 3: nothing of the first folder is needed any more
    assert far.sweep() == 0 and listed(far) == stored
    handover.forget()
    assert listed(far) == []


def listed(store: Store) -> list[str]:
    fs: Any = store.folders._fs
    fs.invalidate_cache()
    return sorted(fs.ls(store.folders._root, detail=False))


def test_nothing_travels_where_the_files_lie_in_the_home(store: Store, settings: Settings) -> None:
    job, lease = started(store)
    here = JobFolder.of(settings.home, job.id)
    step(here, 1)
    hand_over(Handover(store, lease, job, here, settings.home))
    assert store.jobs.get(job.id).snapshot is None


def test_a_store_that_refuses_is_not_asked_at_every_tick_and_gets_it_in_the_end(store: Store, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder can be made here")
    with Store.open(Settings.read({}, home=settings.home, files_url=str(tmp_path / "taken"))) as refusing:
        job, lease = started(store)
        here = JobFolder.of(tmp_path / "a", job.id)
        handover = Handover(refusing, lease, job, here, tmp_path / "a")
        step(here, 1)
        hand_over(handover)
        (tmp_path / "taken").unlink()
        hand_over(handover)
        assert store.jobs.get(job.id).snapshot is None
        handover.finish()
        assert store.jobs.get(job.id).snapshot is not None

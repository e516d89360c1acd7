"""Leases: each job to one worker, lost ones back to the queue, late workers refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from pinetune.errors import LeaseLost
from pinetune.settings import Settings
from pinetune.store import Job, Lease, NewEvent, NewJob, NewModel, Store
from tests.store.conftest import Clock

MODEL = NewModel("adapter", "/models/x")
CLAIMER = """
import json, sys
from pinetune.settings import Settings
from pinetune.store import Store
url, home, name = sys.argv[1:]
got = []
with Store.open(Settings.read({}, home=home, database_url=url, busy_seconds=60)) as store:
    while (found := store.leases.claim(name, 3600)) is not None:
        got.append(found[0].id)
print(json.dumps(got))
"""


def running(store: Store, new: NewJob, worker: str = "w1") -> tuple[Job, Lease]:
    store.jobs.create(new)
    found = store.leases.claim(worker, 60)
    assert found is not None
    store.jobs.validated(found[1])
    again = store.leases.claim(worker, 60)
    assert again is not None
    return again


def test_eight_threads_claim_fifty_jobs_once_each(store: Store, new_job: Callable[..., NewJob]) -> None:
    made = [store.jobs.create(new_job()).id for _ in range(50)]
    claimed: list[tuple[str, str]] = []
    gate = threading.Barrier(8)

    def work(name: str) -> None:
        gate.wait()
        while (found := store.leases.claim(name, 60)) is not None:
            claimed.append((name, found[0].id))

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(id for _, id in claimed) == Counter(made)
    assert {store.jobs.get(id).worker for id in made} <= {f"w{i}" for i in range(8)}


@pytest.mark.slow
def test_four_processes_claim_fifty_jobs_once_each(store: Store, new_job: Callable[..., NewJob], settings: Settings) -> None:
    made = [store.jobs.create(new_job()).id for _ in range(50)]
    args = [settings.database_url, str(settings.home)]
    workers = [subprocess.Popen([sys.executable, "-c", CLAIMER, *args, f"w{i}"], stdout=subprocess.PIPE) for i in range(4)]
    got = [id for worker in workers for id in json.loads(worker.communicate()[0])]
    assert Counter(got) == Counter(made)


def test_claims_go_by_age_and_state(store: Store, new_job: Callable[..., NewJob]) -> None:
    first, second = (store.jobs.create(new_job()) for _ in range(2))
    assert store.leases.claim("w", 60, ["queued"]) is None
    found = store.leases.claim("w", 60)
    assert found is not None and (found[0].id, found[0].status) == (first.id, "validating_files")
    store.jobs.validated(found[1])
    queued = store.leases.claim("w", 60, ["queued"])
    assert queued is not None and (queued[0].id, queued[0].status) == (first.id, "running")
    other = store.leases.claim("w", 60)
    assert other is not None and other[0].id == second.id
    assert store.leases.claim("w", 60) is None


def test_a_vanished_worker_loses_the_job_with_its_checkpoint(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job, late = running(store, new_job())
    store.checkpoints.add(late, 5, MODEL, {})
    clock.time = 1060.0
    assert store.leases.expire() == []  # 60 s are granted in full
    clock.time = 1060.5
    assert store.leases.expire() == [job.id]
    assert store.jobs.get(job.id).status == "queued"
    assert store.events.list(job.id, limit=1).items[0].message == "The worker stopped reporting, moving job to queued state"
    found = store.leases.claim("w2", 60)
    assert found is not None
    again, lease = found
    latest = store.checkpoints.latest(job.id)
    assert (again.id, again.started_at, latest and latest.step) == (job.id, 1000.0, 5)
    assert store.leases.renew(late, 60) is False
    assert store.leases.renew(lease, 60) is True
    writes: list[Callable[[], object]] = [
        lambda: store.events.append(late, [NewEvent("from the grave")]),
        lambda: store.events.put_metrics(late, 6, {"loss": 1.0}),
        lambda: store.checkpoints.add(late, 6, MODEL, {}),
        lambda: store.checkpoints.drop(late, 5),
        lambda: store.jobs.update(late, trained_tokens=1),
        lambda: store.jobs.succeed(late, MODEL, 1),
        lambda: store.jobs.fail(late, "x", "y"),
        lambda: store.jobs.release(late),
        lambda: store.evals.create("proj_default", {}, job=late),
    ]
    before = (store.jobs.get(job.id), store.events.since(job.id, 0))
    for write in writes:
        with pytest.raises(LeaseLost, match=f"w1 no longer holds {job.id}"):
            write()
    assert (store.jobs.get(job.id), store.events.since(job.id, 0)) == before
    assert store.jobs.succeed(lease, MODEL, 1).status == "succeeded"


def test_a_worker_that_slept_keeps_the_job_when_nobody_took_it(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job, lease = running(store, new_job())
    clock.time += 3600
    assert store.leases.renew(lease, 60) is True
    assert store.leases.expire() == []
    assert store.jobs.get(job.id).worker == "w1"


def test_the_same_worker_name_is_no_passport(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    _, old = running(store, new_job())
    clock.time += 61
    store.leases.expire()
    found = store.leases.claim("w1", 60)  # restarted under its name
    assert found is not None and found[1].fence > old.fence
    assert store.leases.renew(old, 60) is False


def test_cancel_reaches_the_worker_through_its_lease(store: Store, new_job: Callable[..., NewJob]) -> None:
    job, lease = running(store, new_job())
    store.checkpoints.add(lease, 3, MODEL, {})
    assert store.jobs.cancel(job.id).status == "cancelled"
    assert store.leases.renew(lease, 60) is False
    assert [c.step for c in store.checkpoints.list(job.id).items] == [3]
    assert store.models.get(f"{job.tuned_name}:ckpt-step-3").location == "/models/x"


def test_released_jobs_wait_again_in_their_old_place(store: Store, new_job: Callable[..., NewJob]) -> None:
    job, lease = running(store, new_job())
    store.jobs.create(new_job())
    assert store.jobs.release(lease).status == "queued"
    found = store.leases.claim("w2", 60)
    assert found is not None and (found[0].id, found[0].attempts) == (job.id, 1)


def test_a_job_that_kills_its_workers_fails_in_the_end(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job, lease = running(store, new_job())
    store.checkpoints.add(lease, 1, MODEL, {})  # progress: counting starts anew
    for _ in range(2):
        clock.time += 61
        assert store.leases.expire(max_attempts=2) == [job.id]
        assert store.jobs.get(job.id).status == "queued"
        assert store.leases.claim("w", 60) is not None
    clock.time += 61
    assert store.leases.expire(max_attempts=2) == [job.id]
    failed = store.jobs.get(job.id)
    text = "2 workers in a row stopped while they worked on this job, without reaching a checkpoint"
    assert (failed.status, failed.error) == ("failed", {"code": "worker_lost", "message": text, "param": None})
    assert [c.step for c in store.checkpoints.list(job.id).items] == [1]


def test_validation_is_taken_over_too(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job = store.jobs.create(new_job())
    first = store.leases.claim("w1", 60)
    assert first is not None
    clock.time += 61
    assert store.leases.expire() == [job.id]
    second = store.leases.claim("w2", 60)
    assert second is not None and second[0].status == "validating_files"
    with pytest.raises(LeaseLost):
        store.jobs.validated(first[1])
    assert store.jobs.validated(second[1]).status == "queued"


def test_a_dead_workers_jobs_are_given_back_at_once(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job, lease = running(store, new_job(), "w1")
    other, kept = running(store, new_job(), "w2")
    assert store.leases.abandon("w1") == [job.id]
    assert (store.jobs.get(job.id).status, store.jobs.get(other.id).status) == ("queued", "running")
    assert not store.leases.renew(lease, 60)
    assert store.leases.renew(kept, 60)

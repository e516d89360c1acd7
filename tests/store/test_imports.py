"""Records brought over keep ids, times and order; brought over again they change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pinetune.errors import MoveRefused, NotFound, StoreError
from pinetune.settings import Settings
from pinetune.store import NewEvent, NewJob, NewModel, NewOutputItem, Store
from tests.store.conftest import Clock

ME = "proj_default"


def bring_over(source: Store, target: Store) -> int:
    """Everything of `source` into `target`; how many records were new."""
    new = 0
    for file in source.files.list(ME, order="asc").items:
        new += target.imports.file(file, source.files.chunks(file.id))
    for eval in source.evals.list(ME).items:
        new += target.imports.eval(eval)
        for run in source.eval_runs.list(eval.id).items:
            new += target.imports.run(run)
            new += target.imports.items(source.eval_runs.items(run.id).items)
    for job in source.jobs.list(ME).items:
        new += target.imports.job(job)
        events = source.events.list(job.id, order="asc", limit=100).items
        told = [NewEvent(e.message, e.level, e.type, e.data, key=e.id, created_at=e.created_at, id=e.id) for e in events]  # type: ignore[arg-type]
        new += target.events.append(job.id, told)
        for checkpoint in source.checkpoints.list(job.id, order="asc").items:
            new += target.imports.checkpoint(checkpoint)
    return new


def test_a_store_brought_over_is_equal(store: Store, new_job: Callable[..., NewJob], clock: Clock, tmp_path: Path) -> None:
    job = store.jobs.create(new_job(suffix="s", metadata={"a": "b"}))
    store.jobs.validated(store.leases.claim("w", 60)[1])  # type: ignore[index]
    lease = store.leases.claim("w", 60)[1]  # type: ignore[index]
    made = store.evals.create(ME, {"testing_criteria": []}, job=lease)
    run = store.eval_runs.create(made.id, ME, {}, name="Step 0", job=lease)
    store.eval_runs.add_items(lease, run.id, [NewOutputItem(0, "pass", {"score": 1.0})])
    store.eval_runs.finish(lease, run.id, "completed", {})
    store.checkpoints.add(lease, 1, NewModel("adapter", "/c"), {"reward": 0.5})
    store.jobs.succeed(lease, NewModel("adapter", "/m"), 5)
    clock.time = 5000.0
    with Store.open(Settings.read({}, home=tmp_path / "other"), now=clock) as target:
        assert bring_over(store, target) == 1 + 3 + 1 + 7 + 1
        assert bring_over(store, target) == 0
        # `updated_at` moves with the events; all else is the same
        assert replace(target.jobs.get(job.id), updated_at=0) == replace(store.jobs.get(job.id), updated_at=0)
        for one in (
            lambda s: s.files.list(),
            lambda s: s.evals.list(),
            lambda s: s.eval_runs.items(run.id),
            lambda s: s.events.list(job.id),
        ):
            assert one(target) == one(store)
        assert target.checkpoints.list(job.id) == store.checkpoints.list(job.id)
        newer = target.jobs.create(new_job())
        assert [j.id for j in target.jobs.list().items] == [newer.id, job.id]
        assert target.leases.claim("w", 60) is not None and target.leases.claim("w", 60) is None


def test_what_has_not_ended_is_not_brought_over(store: Store, new_job: Callable[..., NewJob]) -> None:
    job = store.jobs.create(new_job())
    with pytest.raises(MoveRefused, match="is validating_files; import it when it has ended"):
        store.imports.job(replace(job, id="ftjob-other"))
    eval = store.evals.create(ME, {})
    run = store.eval_runs.create(eval.id, ME, {})
    with pytest.raises(MoveRefused, match="is queued; import it when it has ended"):
        store.imports.run(replace(run, id="evalrun_other"))
    with pytest.raises(NotFound):
        store.imports.run(replace(run, eval_id="eval_none", status="failed"))


def test_a_name_that_is_taken_is_said_and_nothing_is_stored(store: Store, new_job: Callable[..., NewJob]) -> None:
    job = store.jobs.cancel(store.jobs.create(new_job()).id)
    with pytest.raises(StoreError, match="ftjob-other cannot be brought over: a name or number of its own belongs to another object here"):
        store.imports.job(replace(job, id="ftjob-other"))
    assert [one.id for one in store.jobs.list().items] == [job.id]

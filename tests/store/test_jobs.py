"""Jobs: every state against every move, what each move leaves behind, and whose job it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pinetune.errors import LeaseLost, MoveRefused, NotFound
from pinetune.store import STATES, Job, Lease, NewEvent, NewJob, NewModel, Store
from tests.store.conftest import Clock

MODEL = NewModel("adapter", "/models/x", "pinetune-mini")
NewJobMaker = Callable[..., NewJob]


def put_in(store: Store, new: NewJob, state: str) -> tuple[Job, Lease]:
    """A job in `state`, and the lease of the worker that brought it there (outdated where the state holds none)."""
    job = store.jobs.create(new)
    _, lease = claimed(store)
    if state == "validating_files":
        return store.jobs.get(job.id), lease
    if state in ("failed",):
        return store.jobs.fail(lease, "invalid_training_file", "line 3: no messages", "training_file"), lease
    store.jobs.validated(lease)
    if state == "queued":
        return store.jobs.get(job.id), lease
    _, lease = claimed(store)
    if state == "paused":
        store.jobs.request_pause(job.id)
        store.jobs.paused(lease)
    if state == "succeeded":
        store.jobs.succeed(lease, MODEL, trained_tokens=7)
    if state == "cancelled":
        store.jobs.cancel(job.id)
    return store.jobs.get(job.id), lease


def claimed(store: Store) -> tuple[Job, Lease]:
    found = store.leases.claim("w1", 60)
    assert found is not None
    return found


MOVES = {
    "validated": lambda store, job, lease: store.jobs.validated(lease),
    "pause": lambda store, job, lease: store.jobs.request_pause(job.id),
    "paused": lambda store, job, lease: store.jobs.paused(lease),
    "resume": lambda store, job, lease: store.jobs.resume(job.id),
    "cancel": lambda store, job, lease: store.jobs.cancel(job.id),
    "change": lambda store, job, lease: store.jobs.set_options(job.id, {"judge_budget_tokens": 5}),
    "succeed": lambda store, job, lease: store.jobs.succeed(lease, MODEL, 7),
    "fail": lambda store, job, lease: store.jobs.fail(lease, "x", "it broke"),
    "release": lambda store, job, lease: store.jobs.release(lease),
}
ALLOWED = {
    ("validating_files", "validated"): "queued",
    ("validating_files", "cancel"): "cancelled",
    ("validating_files", "fail"): "failed",
    ("validating_files", "release"): "validating_files",
    ("queued", "cancel"): "cancelled",
    ("running", "pause"): "running",
    ("running", "paused"): "paused",
    ("running", "cancel"): "cancelled",
    ("running", "succeed"): "succeeded",
    ("running", "fail"): "failed",
    ("running", "release"): "queued",
    ("paused", "resume"): "queued",
    ("paused", "cancel"): "cancelled",
    ("paused", "change"): "paused",
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", STATES)
def test_every_move_from_every_state(store: Store, new_job: NewJobMaker, state: str, move: str) -> None:
    job, lease = put_in(store, new_job(), state)
    events = len(store.events.since(job.id, 0))
    if (state, move) in ALLOWED:
        after = MOVES[move](store, job, lease)
        assert after.status == ALLOWED[state, move] == store.jobs.get(job.id).status
        assert len(store.events.since(job.id, 0)) == events + (2 if move == "succeed" else 1)
    else:
        with pytest.raises((MoveRefused, LeaseLost)):
            MOVES[move](store, job, lease)
        assert store.jobs.get(job.id) == job
        assert len(store.events.since(job.id, 0)) == events


def test_a_whole_life(store: Store, new_job: NewJobMaker, clock: Clock) -> None:
    created = store.jobs.create(new_job(suffix="rare", metadata={"team": "a"}))
    assert created.status == "validating_files"
    assert created.tuned_name.startswith("ft:pinetune-mini:pinetune:rare:")
    assert created.fine_tuned_model is None
    _, lease = claimed(store)
    store.jobs.validated(lease)
    clock.time = 1010
    job, lease = claimed(store)
    assert (job.status, job.started_at) == ("running", 1010)
    store.jobs.update(lease, hyperparameters={"n_epochs": 3}, estimated_finish=1100)
    store.checkpoints.add(lease, 5, MODEL, {"reward": 0.5})
    clock.time = 1020
    done = store.jobs.succeed(lease, MODEL, trained_tokens=99, result_files=["file-1"])
    assert (done.finished_at, done.estimated_finish, done.trained_tokens, done.result_files) == (1020, None, 99, ["file-1"])
    assert done.fine_tuned_model == created.tuned_name
    assert store.models.get(created.tuned_name).location == "/models/x"
    assert store.models.get(f"{created.tuned_name}:ckpt-step-5").step == 5
    assert [event.message for event in store.events.list(job.id, order="asc").items] == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: none",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "Checkpoint created at step 5",
        f"New fine-tuned model created: {created.tuned_name}",
        "The job has successfully completed",
    ]


def test_pause_and_resume_keep_the_job(store: Store, new_job: NewJobMaker) -> None:
    job, lease = put_in(store, new_job(), "running")
    assert store.jobs.request_pause(job.id).pause_requested
    assert store.jobs.paused(lease).status == "paused"
    again = store.jobs.resume(job.id)
    assert (again.status, again.pause_requested) == ("queued", False)
    back, _ = claimed(store)
    assert (back.id, back.status, back.started_at) == (job.id, "running", job.started_at)


def test_a_refusal_names_state_and_move(store: Store, new_job: NewJobMaker) -> None:
    job, _ = put_in(store, new_job(), "succeeded")
    with pytest.raises(MoveRefused, match=r"Cannot pause job ftjob-.*: it is succeeded, and must be running") as caught:
        store.jobs.request_pause(job.id)
    assert (caught.value.status, caught.value.move) == ("succeeded", "pause")


def test_jobs_of_another_project_do_not_exist(store: Store, new_job: NewJobMaker) -> None:
    other = store.projects.create("other")
    job = store.jobs.create(new_job())
    for attempt in (store.jobs.get, store.jobs.cancel, store.jobs.request_pause, store.jobs.resume):
        with pytest.raises(NotFound, match=f"No such fine-tuning job: {job.id}"):
            attempt(job.id, other.id)
    assert store.jobs.list(other.id).items == ()
    with pytest.raises(NotFound, match="No such file"):
        store.jobs.create(new_job(project=other.id))


def test_lists_are_newest_first_and_paged(store: Store, new_job: NewJobMaker) -> None:
    ids = [store.jobs.create(new_job()).id for _ in range(5)]
    first = store.jobs.list("proj_default", limit=2)
    assert ([job.id for job in first.items], first.has_more) == ([ids[4], ids[3]], True)
    last = store.jobs.list("proj_default", limit=3, after=ids[3])
    assert ([job.id for job in last.items], last.has_more) == ([ids[2], ids[1], ids[0]], False)
    with pytest.raises(NotFound, match="No such cursor: ftjob-nope"):
        store.jobs.list("proj_default", after="ftjob-nope")


def test_metadata_filters_take_any_key(store: Store, new_job: NewJobMaker) -> None:
    odd = """a.b["'$]c"""
    tagged = store.jobs.create(new_job(metadata={odd: "x", "team": "red"}))
    store.jobs.create(new_job(metadata={"team": "blue"}))
    plain = store.jobs.create(new_job())
    assert [job.id for job in store.jobs.list(metadata={odd: "x"}).items] == [tagged.id]
    assert [job.id for job in store.jobs.list(metadata={"team": "red", odd: "x"}).items] == [tagged.id]
    assert store.jobs.list(metadata={odd: "y"}).items == ()
    assert [job.id for job in store.jobs.list(metadata=None).items] == [plain.id]
    assert len(store.jobs.list().items) == 3


def test_events_are_stored_once_and_in_order(store: Store, new_job: NewJobMaker) -> None:
    job, lease = put_in(store, new_job(), "running")
    before = store.events.since(job.id, 0)[-1].position
    batch = [NewEvent(f"Step {i}/3", type="metrics", data={"step": i}, key=f"step-{i}") for i in (1, 2)]
    assert store.events.append(lease, batch) == 2
    assert store.events.append(lease, [*batch, NewEvent("Step 3/3", key="step-3"), NewEvent("Step 3/3", key="step-3")]) == 1
    new = store.events.since(job.id, before)
    assert [(event.position - before, event.message) for event in new] == [(1, "Step 1/3"), (2, "Step 2/3"), (3, "Step 3/3")]
    page = store.events.list(job.id, limit=1)
    assert (page.items[0].message, page.has_more) == ("Step 3/3", True)
    assert store.events.list(job.id, limit=1, after=page.items[0].id).items[0].message == "Step 2/3"


def test_metrics_of_a_step_are_merged(store: Store, new_job: NewJobMaker) -> None:
    job, lease = put_in(store, new_job(), "running")
    store.events.put_metrics(lease, 1, {"train_reward_mean": 0.25, "loss": float("nan")}, rollouts="rollouts/step-00001.parquet")
    store.events.put_metrics(lease, 2, {"train_reward_mean": 0.5})
    store.events.put_metrics(lease, 1, {"valid_reward_mean": 0.75, "train_reward_mean": 0.25})
    rows = store.events.metrics(job.id)
    assert [(row.step, row.data) for row in rows] == [
        (1, {"train_reward_mean": 0.25, "loss": None, "valid_reward_mean": 0.75}),
        (2, {"train_reward_mean": 0.5}),
    ]
    assert rows[0].rollouts == "rollouts/step-00001.parquet"
    assert [row.step for row in store.events.metrics(job.id, after_step=1)] == [2]
    assert store.jobs.get(job.id).step == 2


def test_text_that_no_database_takes(store: Store, new_job: NewJobMaker) -> None:
    job = store.jobs.create(new_job())
    store.events.append(job.id, [NewEvent("a\x00b\ud800c", data={"text": "a\x00b\ud800c"})])
    event = store.events.list(job.id, limit=1).items[0]
    assert event.message == "a\ufffdb?c"
    assert event.data == {"text": "a\x00b\ud800c"}


def test_checkpoints_told_again_are_stored_once(store: Store, new_job: NewJobMaker) -> None:
    job, lease = put_in(store, new_job(), "running")
    first = store.checkpoints.add(lease, 10, NewModel("adapter", "/c/10"), {"reward": 0.1})
    again = store.checkpoints.add(lease, 10, NewModel("adapter", "/c/10"), {"reward": 0.2})
    assert (again.id, again.metrics) == (first.id, {"reward": 0.2})
    second = store.checkpoints.add(lease, 20, NewModel("adapter", "/c/20"), {})
    assert first.id.startswith("ftckpt_")
    assert first.model == f"{job.tuned_name}:ckpt-step-10"
    page = store.checkpoints.list(job.id, limit=1)
    assert ([c.step for c in page.items], page.has_more) == ([20], True)
    assert [c.step for c in store.checkpoints.list(job.id, after=page.items[0].id).items] == [10]
    store.checkpoints.drop(lease, 10)
    assert [c.step for c in store.checkpoints.list(job.id).items] == [20]
    latest = store.checkpoints.latest(job.id)
    assert latest is not None and latest.id == second.id
    with pytest.raises(NotFound):
        store.models.get(first.model)


def test_the_end_of_a_job_fills_the_outbox(store: Store, new_job: NewJobMaker, clock: Clock) -> None:
    endpoint = store.webhooks.add("proj_default", "http://localhost/hook")
    store.webhooks.add("proj_default", "http://localhost/evals", ["eval.run.succeeded"])
    job, _ = put_in(store, new_job(), "cancelled")
    found = store.webhooks.claim()
    assert found is not None
    delivery, to = found
    assert (to.id, delivery.type, delivery.payload["data"]) == (endpoint.id, "fine_tuning.job.cancelled", {"id": job.id})
    assert store.webhooks.claim() is None
    store.webhooks.failed(delivery, "connection refused")
    clock.time += 5
    again = store.webhooks.claim()
    assert again is not None and (again[0].id, again[0].attempts) == (delivery.id, 2)
    store.webhooks.delivered(again[0])
    clock.time += 1e6
    assert store.webhooks.claim() is None
    assert store.webhooks.deliveries(endpoint.id)[0].delivered_at == 1005.0

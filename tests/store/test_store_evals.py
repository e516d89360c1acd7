"""Evals, their runs and items, stored replies, keys, models: what is kept, for whom, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pinetune.errors import LeaseLost, MoveRefused, NotFound, StoreError
from pinetune.settings import Settings
from pinetune.store import NewJob, NewModel, NewOutputItem, Store
from tests.store.conftest import Clock

ME = "proj_default"
BODY = {"data_source_config": {"type": "custom"}, "testing_criteria": []}


def items(*positions: int) -> list[NewOutputItem]:
    return [NewOutputItem(p, "pass" if p % 2 else "fail", {"datasource_item_id": p}) for p in positions]


def test_evals_are_listed_oldest_first_or_by_their_last_change(store: Store, clock: Clock) -> None:
    made = []
    for name in "abc":
        clock.time += 1
        made.append(store.evals.create(ME, BODY, name=name, metadata={"k": name}))
    clock.time += 1
    changed = store.evals.update(made[0].id, ME, name="z")
    assert (changed.name, changed.metadata, changed.updated_at) == ("z", {"k": "a"}, 1004.0)
    assert [e.name for e in store.evals.list(ME).items] == ["z", "b", "c"]
    assert [e.name for e in store.evals.list(ME, order="desc", order_by="updated_at", limit=2).items] == ["z", "c"]
    after = store.evals.list(ME, order="desc", order_by="updated_at", after=changed.id)
    assert ([e.name for e in after.items], after.has_more) == (["c", "b"], False)
    store.evals.delete(made[1].id, ME)
    assert [e.name for e in store.evals.list(ME, after=made[1].id).items] == ["c"]
    with pytest.raises(NotFound, match="No such eval"):
        store.evals.get(made[0].id, "proj_other")


def test_a_run_from_queue_to_result(store: Store, clock: Clock) -> None:
    hook = store.webhooks.add(ME, "http://localhost/hook")
    eval_id = store.evals.create(ME, BODY).id
    run = store.eval_runs.create(eval_id, ME, {"data_source": {}}, name="first", model="pinetune-mini")
    assert (run.status, run.result) == ("queued", {})
    found = store.eval_runs.claim("w1", 60)
    assert found is not None
    _, lost = found
    assert store.eval_runs.add_items(lost, run.id, items(0, 1)) == 2
    clock.time += 61
    assert store.eval_runs.expire() == 1
    found = store.eval_runs.claim("w2", 60)
    assert found is not None and found[0].id == run.id
    lease = found[1]
    with pytest.raises(LeaseLost):
        store.eval_runs.add_items(lost, run.id, items(2))
    assert store.eval_runs.positions(run.id) == {0, 1}
    assert store.eval_runs.add_items(lease, run.id, items(1, 2, 2, 3)) == 2
    done = store.eval_runs.finish(lease, run.id, "completed", {"result_counts": {"total": 4}})
    assert (done.status, done.result, done.finished_at, done.worker) == ("completed", {"result_counts": {"total": 4}}, 1061.0, None)
    page = store.eval_runs.items(run.id, limit=3)
    assert ([item.position for item in page.items], page.has_more) == ([0, 1, 2], True)
    assert [item.position for item in store.eval_runs.items(run.id, after=page.items[2].id).items] == [3]
    assert [item.position for item in store.eval_runs.items(run.id, status="pass", order="desc").items] == [3, 1]
    assert store.eval_runs.item(page.items[1].id, run.id).body == {"datasource_item_id": 1}
    assert [d.type for d in store.webhooks.deliveries(hook.id)] == ["eval.run.succeeded"]
    with pytest.raises(MoveRefused, match="it is completed"):
        store.eval_runs.cancel(run.id)


def test_canceled_and_deleted_runs_lose_their_worker(store: Store) -> None:
    eval_id = store.evals.create(ME, BODY).id
    run, other = (store.eval_runs.create(eval_id, ME, {}, name=name) for name in "ab")
    found = store.eval_runs.claim("w", 60)
    assert found is not None
    assert store.eval_runs.cancel(run.id, ME).status == "canceled"
    assert store.eval_runs.renew(found[1], 60) is False
    assert [r.name for r in store.eval_runs.list(eval_id, status="queued").items] == ["b"]
    store.eval_runs.delete(run.id)
    assert [r.name for r in store.eval_runs.list(eval_id, after=run.id).items] == ["b"]
    taken = store.eval_runs.claim("w", 60)
    store.evals.delete(eval_id)
    assert taken is not None and store.eval_runs.renew(taken[1], 60) is False
    with pytest.raises(NotFound):
        store.eval_runs.get(other.id, ME, "eval_other")


def test_a_jobs_own_eval_and_runs_are_made_once(store: Store, new_job: Callable[..., NewJob], clock: Clock) -> None:
    job = store.jobs.create(new_job())
    store.jobs.validated(store.leases.claim("w", 60)[1])  # type: ignore[index]
    lease = store.leases.claim("w", 60)[1]  # type: ignore[index]
    made = store.evals.create(ME, BODY, job=lease)
    assert store.evals.create(ME, BODY, job=lease) == made
    assert store.jobs.get(job.id).eval_id == made.id
    run = store.eval_runs.create(made.id, ME, {}, name="Step 0", job=lease)
    assert store.eval_runs.create(made.id, ME, {}, name="Step 0", job=lease) == run
    assert run.status == "in_progress" and store.eval_runs.claim("other", 60) is None
    assert store.eval_runs.add_items(lease, run.id, items(0)) == 1
    assert store.eval_runs.finish(lease, run.id, "completed", {}).status == "completed"
    strange = store.eval_runs.create(made.id, ME, {})
    with pytest.raises(LeaseLost, match="is not a run of"):
        store.eval_runs.add_items(lease, strange.id, items(0))


def test_replies_are_listed_chained_and_deleted(store: Store, clock: Clock) -> None:
    def keep(id: str, **more: str) -> None:
        clock.time += 1
        body = {"id": id, "model": "m", "status": "completed"}
        store.replies.add(ME, "response", body, input=[{"role": "user"}], request={"temperature": 1}, **more)  # type: ignore[arg-type]

    keep("resp_1")
    keep("resp_2", previous_id="resp_1")
    keep("resp_3", previous_id="resp_2")
    store.replies.add(ME, "chat.completion", {"id": "chatcmpl-1", "model": "n"}, input=[], request={}, metadata={"team": "a"})
    assert [reply.id for reply in store.replies.chain("resp_3", ME)] == ["resp_1", "resp_2", "resp_3"]
    assert [r.id for r in store.replies.list(ME, "response", created_after=1001, created_before=1003).items] == ["resp_2"]
    assert [r.id for r in store.replies.list(ME, "chat.completion", model="n", metadata={"team": "a"}).items] == ["chatcmpl-1"]
    assert store.replies.list(ME, "chat.completion", metadata={"team": "b"}).items == ()
    assert store.replies.update("resp_3", ME, body={"id": "resp_3", "model": "m", "status": "failed"}).status == "failed"
    store.replies.delete("resp_1", ME, "response")
    with pytest.raises(NotFound, match="No such response: resp_1"):
        store.replies.chain("resp_3", ME)
    with pytest.raises(NotFound, match="No such chat completion"):
        store.replies.get("resp_2", ME, "chat.completion")


def test_keys_are_shown_once_and_stored_hashed(store: Store, clock: Clock, settings: Settings) -> None:
    assert store.keys.any() is False
    key, secret = store.keys.create("laptop")
    assert secret.startswith("sk-pt-") and len(secret) == 49 and secret.startswith(key.prefix)
    found = store.keys.check(secret)
    assert found is not None and (found.id, found.project) == (key.id, ME)
    assert store.keys.list()[0].last_used_at == 1000.0
    clock.time += 30
    store.keys.check(secret)
    assert store.keys.list()[0].last_used_at == 1000.0  # exact to the minute
    clock.time += 31
    store.keys.check(secret)
    assert store.keys.list()[0].last_used_at == 1061.0
    for wrong in ("", "sk-pt-", secret[:-1], secret + "x", secret.upper(), "\x00\ud800"):
        assert store.keys.check(wrong) is None
    if store.database.is_sqlite:
        store.close()
        assert secret.encode() not in b"".join(path.read_bytes() for path in settings.home.glob("pinetune.db*"))
    store.keys.revoke(key.prefix)
    assert store.keys.check(secret) is None and store.keys.any() is False
    with pytest.raises(NotFound, match="No such API key"):
        store.keys.revoke(key.id)
    with pytest.raises(NotFound, match="No such project"):
        store.keys.create(project="proj_none")


def test_models_are_found_by_id_and_alias(settings: Settings, clock: Clock) -> None:
    with Store.open(Settings.read({}, home=settings.home, database_url=settings.database_url, model_aliases={"o3": "org/base"})) as store:
        store.models.register("org/base", "org/base")
        assert store.models.register("org/base", "/local/base").location == "/local/base"
        store.models.set_alias("o4-mini", "org/base")
        store.models.set_alias("o3", "never used")
        for name in ("org/base", "o3", "o4-mini"):
            assert store.models.resolve(name, ME).id == "org/base"
        assert store.models.aliases() == {"o4-mini": "org/base", "o3": "org/base"}
        store.models.remove_alias("o4-mini")
        with pytest.raises(NotFound, match="No such model: o4-mini"):
            store.models.resolve("o4-mini")
        assert [model.id for model in store.models.list(ME)] == ["org/base"]
        store.models.delete("org/base")
        assert store.models.list(ME) == ()
        assert store.models.register("org/base", "/again").location == "/again"


def test_tuned_models_belong_to_their_project_and_its_guests(store: Store, new_job: Callable[..., NewJob]) -> None:
    other = store.projects.create("other").id
    job = store.jobs.create(new_job(model="ft:pinetune-mini:acme::AbCdEf12"))
    assert job.tuned_name.startswith("ft:pinetune-mini:pinetune::")
    store.jobs.validated(store.leases.claim("w", 60)[1])  # type: ignore[index]
    lease = store.leases.claim("w", 60)[1]  # type: ignore[index]
    checkpoint = store.checkpoints.add(lease, 1, NewModel("adapter", "/c", "pinetune-mini"), {}).model
    store.jobs.succeed(lease, NewModel("full", "/m"), 5)
    with pytest.raises(NotFound):
        store.models.resolve(checkpoint, other)
    (first,) = store.checkpoints.permit(checkpoint, [other], ME)
    assert store.checkpoints.permit(checkpoint, [other, other], ME) == (first,)
    assert store.models.resolve(checkpoint, other).base == "pinetune-mini"
    assert [model.id for model in store.models.list(other, checkpoints=True)] == [checkpoint]
    assert [model.id for model in store.models.list(ME)] == [job.tuned_name]
    with pytest.raises(NotFound):
        store.models.delete(checkpoint, other)
    assert store.checkpoints.permissions(checkpoint, ME).items == (first,)
    store.checkpoints.forbid(checkpoint, first.id, ME)
    with pytest.raises(NotFound):
        store.models.resolve(checkpoint, other)
    with pytest.raises(NotFound):
        store.checkpoints.permit(checkpoint, [ME], other)
    with pytest.raises(StoreError, match="is the name of a tuned model"):
        store.models.register(job.tuned_name, "/x")
    store.models.delete(job.tuned_name, ME)
    with pytest.raises(NotFound):
        store.models.get(job.tuned_name)

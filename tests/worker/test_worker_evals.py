"""Runs of evals: asked over HTTP, stored item by item, taken over where a worker stopped; and a job's own eval."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from judge_server import HANGS, JudgeServer, Sent, fails, says
from openai import OpenAI

from pinetune.evals.job_eval import job_eval_body, report_to_run
from pinetune.evals.places import Places
from pinetune.evals.stored import stored_rows
from pinetune.graders.options import Services
from pinetune.records import Completion, EvalReport, Grade, Group, Interval, Prompt, Rollout, Row
from pinetune.rollout.run import derive_seed
from pinetune.runs.folder import RunFolder
from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT as ME
from pinetune.store import Lease, Store
from pinetune.wire.evals import StoredResponses
from pinetune.worker.eval_runs import MAX_ATTEMPTS, EvalRunner
from pinetune.worker.job_evals import JobEvals
from tests.worker.conftest import new_job, wait_for

EXACT = {"type": "string_check", "name": "exact", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
BODY = {
    "data_source_config": {
        "type": "custom",
        "schema": {"type": "object", "properties": {"item": {"type": "object"}}, "required": ["item"]},
    },
    "testing_criteria": [{**EXACT, "id": "exact-1"}],
}
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "Say {{ item.answer }}."}]}


def source(count: int, **changes: Any) -> dict[str, Any]:
    rows = [{"item": {"answer": str(i)}} for i in range(count)]
    body = {"type": "completions", "source": {"type": "file_content", "content": rows}, "model": "big", "input_messages": TEMPLATE}
    return {"data_source": {**body, **changes}}


def echo(_: int, body: dict[str, Any]) -> Sent:
    """Says what it is told to say; 3 wrongly."""
    word = body["messages"][-1]["content"].removeprefix("Say ").removesuffix(".")
    return says("three" if word == "3" else word, tokens=(7, 2))


def runner(store: Store, url: str, *, stopping: threading.Event | None = None, **options: Any) -> EvalRunner:
    remote = {"big": {"base_url": url, "model": "Big-32B", "key": "BIG_KEY"}}
    places = Places(remote=remote, environ={"BIG_KEY": "sk-secret-123"})
    return EvalRunner(store, store.settings, "w", stopping or threading.Event(), places=places, services=Services, **options)


def made_run(store: Store, body: dict[str, Any]) -> str:
    return store.eval_runs.create(store.evals.create(ME, BODY).id, ME, body, model="big").id


def test_a_remote_model_is_asked_and_graded(store: Store) -> None:
    run = made_run(store, source(5, sampling_params={"temperature": 0.5, "seed": 7, "max_completion_tokens": 50}))
    with JudgeServer(echo) as server:
        assert runner(store, server.url).one() is True
        assert runner(store, server.url).one() is False
    sent = sorted(server.bodies, key=lambda body: body["messages"][0]["content"])[2]
    assert sent == {
        "model": "Big-32B", "messages": [{"role": "user", "content": "Say 2."}], "temperature": 0.5, "max_completion_tokens": 50,
        "top_p": 1.0, "seed": derive_seed(7, 2, 0) >> 32,
    }  # fmt: skip
    assert len({body["seed"] for body in server.bodies}) == 5  # rows with the same random numbers would err together
    assert set(server.keys) == {"Bearer sk-secret-123"}
    done = store.eval_runs.get(run)
    assert (done.status, done.result["result_counts"]) == ("completed", {"total": 5, "errored": 0, "failed": 1, "passed": 4})
    usage = {"invocation_count": 5, "prompt_tokens": 35, "completion_tokens": 10, "total_tokens": 45, "cached_tokens": 0}
    assert done.result["per_model_usage"] == [{"model_name": "m", **usage}]
    item = store.eval_runs.items(run, status="fail").items[0]
    assert item.body["sample"] == {
        "input": [{"role": "user", "content": "Say 3.", "name": None}], "output": [{"role": "assistant", "content": "three"}],
        "finish_reason": "stop", "model": "m", "error": None, "temperature": 0.5, "max_completion_tokens": 50, "top_p": 1.0,
        "seed": derive_seed(7, 3, 0) >> 32,
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "cached_tokens": 0},
    }  # fmt: skip


@pytest.mark.parametrize("api", ["completions", "responses"])
def test_several_samples_of_a_row_and_one_answer_are_asked_for(store: Store, api: str) -> None:
    several = {"samples": 16, "rule": "first"}
    made_run(store, source(1, type=api, sampling_params={"pinetune": several}))
    with JudgeServer(echo) as server:
        runner(store, server.url).one()
    assert server.bodies[0]["pinetune"] == several


def test_a_row_that_is_not_answered_is_an_error_and_the_others_go_on(store: Store) -> None:
    run = made_run(store, source(3))

    def answer(number: int, body: dict[str, Any]) -> Sent:
        return fails(400, "the key sk-secret-123 is nothing to print") if body["messages"][0]["content"] == "Say 1." else echo(number, body)

    with JudgeServer(answer) as server:
        runner(store, server.url).one()
    done = store.eval_runs.get(run)
    assert (done.status, done.result["result_counts"]) == ("completed", {"total": 3, "errored": 1, "failed": 0, "passed": 2})
    (item,) = store.eval_runs.items(run, status="error").items
    said = item.body["sample"]["error"]
    assert said["code"] == "http_400" and "answered 400: the key [hidden] is nothing" in said["message"]
    assert (item.position, item.body["results"]) == (1, [])


def test_a_run_goes_on_where_its_worker_stopped(store: Store) -> None:
    run = made_run(store, source(12))
    stopping = threading.Event()

    def stop_at_four(number: int, body: dict[str, Any]) -> Sent:
        if number == 5:
            stopping.set()
        return HANGS if number > 4 else echo(number, body)

    with JudgeServer(stop_at_four) as server:
        runner(store, server.url, stopping=stopping, concurrency=1).one()
    assert (store.eval_runs.get(run).status, store.eval_runs.positions(run)) == ("in_progress", frozenset(range(4)))
    with JudgeServer(echo) as server:
        runner(store, server.url).one()
    assert server.count == 8  # nobody is asked twice
    done = store.eval_runs.get(run)
    assert (done.status, done.attempts, done.result["result_counts"]["total"]) == ("completed", 0, 12)  # each got further


def test_a_run_that_gets_no_further_is_given_up(store: Store) -> None:
    run = made_run(store, source(2))
    for _ in range(MAX_ATTEMPTS):
        assert store.eval_runs.claim("w", 60) is not None
        store.eval_runs.abandon("w")
    runner(store, "http://127.0.0.1:1/v1").one()
    done = store.eval_runs.get(run)
    assert (done.status, done.error) == (
        "failed",
        {"code": "invalid_run", "message": "10 workers in a row stopped while they worked on this run, without a new item"},
    )


def test_a_canceled_run_stops_being_asked(store: Store) -> None:
    run = made_run(store, source(400))  # many more than come to be asked, however slow the machine is in noticing

    def answer(number: int, body: dict[str, Any]) -> Sent:
        if number == 3:
            store.eval_runs.cancel(run)
        if number > 3:
            time.sleep(0.3)
        return echo(number, body)

    with JudgeServer(answer) as server:
        runner(store, server.url, concurrency=2, lease_seconds=0.4).one()
    assert server.count < 200
    assert store.eval_runs.get(run).status == "canceled"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (source(1, model="unknown"), "unknown does not exist here"),
        (source(1, source={"type": "file_id", "id": "file-gone"}), "file-gone is gone"),
    ],
)
def test_a_run_that_cannot_begin_fails_with_the_reason(store: Store, body: dict[str, Any], said: str) -> None:
    run = made_run(store, body)
    runner(store, "http://127.0.0.1:1/v1").one()
    done = store.eval_runs.get(run)
    assert (done.status, done.error["code"]) == ("failed", "invalid_run") and said in done.error["message"]  # type: ignore[index]


def test_the_responses_api_is_asked_in_its_own_words(store: Store) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    rows = [{"item": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "answer": "Hello", "tools": [tool]}}]
    body = source(0, type="responses", source={"type": "file_content", "content": rows})
    body["data_source"] |= {"input_messages": {"type": "item_reference", "item_reference": "item.messages"}}
    body["data_source"] |= {"sampling_params": {"reasoning_effort": "low", "max_completion_tokens": 9, "seed": 1}}
    run = made_run(store, body)
    message = {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello"}],
    }
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "f", "status": "completed"}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}
    reply = {
        "id": "r",
        "object": "response",
        "created_at": 0,
        "model": "m",
        "status": "completed",
        "output": [message, call],
        "usage": usage,
    }
    with JudgeServer(lambda *_: Sent(reply)) as server:
        runner(store, server.url).one()
    assert server.bodies[0] == {
        "model": "Big-32B", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], "store": False,
        "reasoning": {"effort": "low"}, "max_output_tokens": 9, "temperature": 1.0, "top_p": 1.0,
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
    }  # fmt: skip
    item = store.eval_runs.items(run).items[0]
    assert item.status == "pass"
    assert item.body["sample"]["output"][0]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]
    assert item.body["sample"]["usage"]["cached_tokens"] == 2


def test_stored_answers_are_graded_or_asked_again(store: Store) -> None:
    for i, (model, text) in enumerate([("a", "0"), ("a", "no"), ("b", "2")]):
        body = {"id": f"chatcmpl-{i}", "model": model, "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
        kept = {"input": [{"role": "user", "content": f"Say {i}."}], "request": {}, "metadata": {"answer": str(i), "team": "x"}}
        store.replies.add(ME, "chat.completion", body, **kept)  # type: ignore[arg-type]
    criterion = {**EXACT, "id": "exact-1", "reference": "{{item.metadata.answer}}"}
    evaluation = store.evals.create(ME, {**BODY, "testing_criteria": [criterion]})
    stored = {"type": "stored_completions", "metadata": {"team": "x"}, "model": "a"}
    graded = store.eval_runs.create(evaluation.id, ME, {"data_source": {"type": "completions", "source": stored}})
    asked = {"type": "completions", "source": {"type": "stored_completions", "limit": 3}, "model": "big"}
    again = store.eval_runs.create(evaluation.id, ME, {"data_source": asked})
    with JudgeServer(echo) as server:
        while runner(store, server.url).one():
            pass
    assert [item.status for item in store.eval_runs.items(graded.id).items] == ["pass", "fail"]
    assert [item.status for item in store.eval_runs.items(again.id).items] == ["pass", "pass", "pass"]
    assert store.eval_runs.items(graded.id).items[0].body["datasource_item"]["input"] == [{"role": "user", "content": "Say 0."}]


def test_stored_responses_are_found_by_their_settings(store: Store) -> None:
    def keep(number: int, **fields: Any) -> None:
        content = [{"type": "output_text", "text": str(number)}]
        output = [{"type": "message", "content": content}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
        body = {"id": f"resp_{number}", "model": "a", "status": "completed", "output": output, "temperature": 1.0, **fields}
        store.replies.add(ME, "response", body, input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], request={})

    keep(0, instructions="Be BRIEF.", tools=[{"type": "function", "name": "f"}], user="u1")
    keep(1, instructions="Talk.", reasoning={"effort": "low"}, user="u2")
    keep(2, temperature=0.5, status="failed")

    def found(**filters: Any) -> list[Any]:
        return [item["id"][-1] for item, _ in stored_rows(store, ME, StoredResponses(type="responses", **filters), before=4e9)]

    assert found() == ["0", "1"]  # what failed has nothing to grade
    assert [found(instructions_search="brief"), found(tools=["f", "g"]), found(users=["u1"])] == [["0"]] * 3
    assert [found(reasoning_effort="low"), found(temperature=0.5), found(created_before=5), found(model="b")] == [["1"], [], [], []]
    item, sample = next(iter(stored_rows(store, ME, StoredResponses(type="responses"), before=4e9)))
    assert item["input"] == [{"role": "developer", "content": "Be BRIEF."}, {"role": "user", "content": "Hi"}]
    assert (item["output"], sample["output_tools"][0]["function"]) == ("0", {"name": "f", "arguments": "{}"})


def report(step: int, values: list[float | None]) -> EvalReport:
    """Two samples a row; None could not be graded."""
    groups = []
    for index in range(len(values) // 2):
        row = Row(index, ({"role": "user", "content": f"Q{index}"},), {"messages": [], "answer": str(index)}, line=index + 1)
        rollouts = []
        for s, value in enumerate(values[2 * index : 2 * index + 2]):
            grade = Grade("error", error_kind="other_error", explanation="no") if value is None else Grade("ok", value)
            completion = Completion((5, 6), (-0.1, -0.2), (False, False), "stop", f"A{index}{s}")
            rollouts.append(Rollout(index, s, 100 + s, completion, grade))
        groups.append(Group(row, Prompt((1, 2, 3)), tuple(rollouts)))
    nothing = Interval(0.5, 0.0, 1.0, len(values))
    return EvalReport(step, f"step {step}", nothing, {}, 0, 2.0, 0.0, 0.0, 1.0, tuple(groups))


def test_a_held_out_report_becomes_a_run() -> None:
    criterion = job_eval_body(EXACT)["testing_criteria"][0]
    items, result = report_to_run(report(0, [1.0, 0.0, None, 1.0]), criterion, model="base")
    assert [(item.position, item.status, item.body["datasource_item_id"]) for item in items] == [
        (0, "pass", 0), (1, "fail", 0), (2, "error", 1), (3, "pass", 1),
    ]  # fmt: skip
    assert result["result_counts"] == {"total": 4, "errored": 1, "failed": 1, "passed": 2}
    assert items[0].body["sample"]["input"] == [{"role": "user", "content": "Q0", "name": None}]
    assert (items[1].body["sample"]["output"], items[1].body["sample"]["seed"]) == ([{"role": "assistant", "content": "A01"}], 101)
    assert result["per_model_usage"][0]["total_tokens"] == 20


def running(store: Store) -> tuple[Any, Lease]:
    job = new_job(store)
    store.jobs.validated(store.leases.claim("w", 60)[1])  # type: ignore[index]
    found = store.leases.claim("w", 60)
    assert found is not None and found[0].id == job.id
    return found


def test_a_jobs_reports_are_told_once(store: Store, tmp_path: Path) -> None:
    store.models.register("tiny", "tiny")
    job, lease = running(store)
    folder = RunFolder(tmp_path / "run")
    evals = JobEvals(store, lease, job, folder)
    evals.catch_up()
    eval_id = store.jobs.get(job.id).eval_id
    assert eval_id is not None and store.eval_runs.list(eval_id).items == ()
    folder.write_eval(report(0, [0.0, 0.0]))
    evals.catch_up()
    folder.write_eval(report(2, [1.0, 0.0]))
    JobEvals(store, lease, job, folder).catch_up()  # as another worker would
    runs = store.eval_runs.list(eval_id).items
    assert [(run.name, run.status, run.model) for run in runs] == [
        ("Step 0", "completed", "tiny"), ("Step 2", "completed", f"{job.tuned_name}:ckpt-step-2"),
    ]  # fmt: skip
    assert [run.result["result_counts"]["passed"] for run in runs] == [0, 1]
    assert [item.position for item in store.eval_runs.items(runs[1].id).items] == [0, 1]


@pytest.mark.slow
def test_a_whole_job_shows_its_steps_as_runs(store: Store, tiny: str, working: Any) -> None:
    job = new_job(store, own={"steps": 2})
    working()
    done = wait_for(store, job, "succeeded", "failed")
    assert done.error is None and done.eval_id is not None
    runs = store.eval_runs.list(done.eval_id).items
    assert [(run.name, run.status, run.result["result_counts"]["total"]) for run in runs] == [
        ("Step 0", "completed", 2), ("Step 2", "completed", 2),
    ]  # fmt: skip
    item = store.eval_runs.items(runs[0].id).items[0]
    assert item.body["sample"]["input"] == [{"role": "user", "content": "Say x.", "name": None}]
    assert item.body["datasource_item"]["answer"] == "A dog x"


@pytest.mark.slow
def test_a_served_model_is_asked_through_the_whole_server(tmp_path: Path) -> None:
    """API, worker and serving as `pinetune serve` plugs them together; the bundled miniature answers."""
    from api_server import listening, prepare

    from pinetune.api.app import create_app
    from pinetune.serving.app import FolderDirectory, create

    prepare(tmp_path / "home")
    settings = Settings.read({}, home=tmp_path / "home")
    with (
        Store.open(settings) as store,
        listening(create(FolderDirectory())) as serving,
        listening(create_app(settings, store)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,  # left open, it would warn in somebody else's test
    ):
        config: Any = {"type": "custom", "item_schema": {"type": "object"}}
        made = client.evals.create(data_source_config=config, testing_criteria=[EXACT])  # type: ignore[list-item]
        rows = [{"item": {"messages": [{"role": "user", "content": f"Case {i}"}], "answer": "x"}} for i in range(4)]
        data: Any = {"type": "completions", "source": {"type": "file_content", "content": rows}, "model": "pinetune-mini"}
        data["sampling_params"] = {"max_completion_tokens": 8}
        run = client.evals.runs.create(made.id, data_source=data)
        EvalRunner(store, settings, "w", threading.Event(), places=Places(serving), services=Services).one()
        done = client.evals.runs.retrieve(run.id, eval_id=made.id)
        assert (done.status, done.result_counts.total, done.result_counts.errored) == ("completed", 4, 0), json.dumps(done.to_dict())
        assert done.per_model_usage[0].run_model_name == "pinetune-mini"
        assert done.per_model_usage[0].completion_tokens > 0

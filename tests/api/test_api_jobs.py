"""Fine-tuning jobs through the official client: creating, following, pausing, lists, checkpoints, the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from api_server import GRADER, FakeWorker, job_body, upload_rows
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import FileObject

RUBRIC = [{"role": "system", "content": 'Judge {"like": "this"}.'}, {"role": "user", "content": "{{item.messages}} {{sample.output_text}}"}]


def test_cookbook_payload(lenient: OpenAI, rows_file: FileObject) -> None:
    judge = {"type": "score_model", "name": "judge", "input": RUBRIC, "pass_threshold": 0.75, "model": "gpt-4.1", "range": [0, 1]}
    judge["sampling_params"] = {"seed": 42, "temperature": 1}
    hyper = {"n_epochs": 5, "reasoning_effort": "medium", "compute_multiplier": 1.0, "eval_samples": 3, "eval_interval": 5}
    grader = {"type": "multi", "graders": {"judge": judge, "same": GRADER}, "calculate_output": "0.85 * judge + 0.15 * same"}
    reinforcement = {"grader": grader, "response_format": None, "hyperparameters": hyper}
    suffix = "medical-o4mini-score-model-2025-07-29-0942"
    body = job_body(rows_file.id, method={"type": "reinforcement", "reinforcement": reinforcement}, suffix=suffix, seed=42)
    with pytest.warns(UserWarning, match="serialized"):  # the client's types know no dict of graders
        job = lenient.fine_tuning.jobs.create(**body)
        method = job.to_dict()["method"]
    assert (len(suffix), job.status, job.seed, job.object) == (42, "validating_files", 42, "fine_tuning.job")
    assert job.user_provided_suffix == suffix  # type: ignore[attr-defined]
    echoed: Any = method["reinforcement"]  # type: ignore[index]
    assert set(echoed["grader"]["graders"]) == {"judge", "same"}
    assert echoed["hyperparameters"] == {"batch_size": "auto", "learning_rate_multiplier": "auto", **hyper}
    assert (job.error, job.fine_tuned_model, job.finished_at, job.result_files, job.trained_tokens) == (None, None, None, [], None)


def test_the_guide_s_request(http: httpx.Client) -> None:
    """Six rows, a multi grader as a dict, a response format, both files."""
    rows = "".join(json.dumps({"messages": [{"role": "user", "content": f"Is {i} even?"}], "compliant": "yes"}) + "\n" for i in range(6))
    files = [
        http.post("/files", data={"purpose": "fine-tune"}, files={"file": (f"{name}.jsonl", rows.encode())}).json()["id"]
        for name in ("train", "valid")
    ]
    same = {
        "name": "Same",
        "type": "string_check",
        "input": "{{sample.output_json.compliant}}",
        "reference": "{{item.compliant}}",
        "operation": "eq",
    }
    like = {"name": "Like", "type": "text_similarity", "input": "{{sample.output_json.explanation}}", "reference": "{{ item.compliant }}"}
    like |= {"evaluation_metric": "fuzzy_match", "pass_threshold": 0.8}
    grader = {
        "type": "multi",
        "graders": {"explanation": like, "compliant": same},
        "calculate_output": "0.5 * compliant + 0.5 * explanation",
    }
    properties = {"compliant": {"type": "string"}, "explanation": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    json_schema = {"name": "security_assistant", "strict": True, "schema": schema}
    reinforcement = {
        "grader": grader,
        "response_format": {"type": "json_schema", "json_schema": json_schema},
        "hyperparameters": {"reasoning_effort": "medium"},
    }
    body = {"training_file": files[0], "validation_file": files[1], "model": "pinetune-mini"}
    reply = http.post("/fine_tuning/jobs", json={**body, "method": {"type": "reinforcement", "reinforcement": reinforcement}})
    assert reply.status_code == 200, reply.text
    shown = reply.json()["method"]["reinforcement"]
    assert shown["response_format"] == reinforcement["response_format"]
    assert shown["grader"]["graders"]["compliant"] == same
    assert reply.json()["hyperparameters"] == {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


def test_keys_of_endpoint_graders_are_hidden(http: httpx.Client, rows_file: FileObject) -> None:
    grader = {"type": "endpoint", "url": "http://127.0.0.1:9/grade", "headers": {"Authorization": "Bearer top-secret"}}
    made = http.post("/fine_tuning/jobs", json=job_body(rows_file.id, **reinforcement(grader=grader)))
    assert made.status_code == 200, made.text
    for reply in (made, http.get(f"/fine_tuning/jobs/{made.json()['id']}"), http.get("/fine_tuning/jobs")):
        assert "top-secret" not in reply.text
    wrong = http.post("/fine_tuning/jobs", json=job_body(rows_file.id, **reinforcement(grader={**grader, "headers": {"Authorization": 1}})))
    assert wrong.status_code == 400
    assert "top-secret" not in http.post("/fine_tuning/jobs", json=job_body("file-none", **reinforcement(grader=grader))).text


def test_a_whole_job(client: OpenAI, lenient: OpenAI, worker_of: Callable[[str], FakeWorker]) -> None:
    job = client.fine_tuning.jobs.create(**job_body(upload_rows(client).id, suffix="expert"))
    worker = worker_of(job.id)
    worker.start()
    running = client.fine_tuning.jobs.retrieve(job.id)
    assert (running.status, running.hyperparameters.batch_size, running.estimated_finish) == ("running", 8, 2_000_000_000)
    assert running.method and running.method.reinforcement and running.method.reinforcement.hyperparameters
    assert running.method.reinforcement.hyperparameters.batch_size == 8
    for step in range(1, 6):
        worker.step(step)
    name = worker.checkpoint(5)
    client.fine_tuning.jobs.pause(job.id)
    worker.pause()
    assert lenient.fine_tuning.jobs.retrieve(job.id).status == "paused"  # type: ignore[comparison-overlap]
    assert client.models.retrieve(name).id == name
    client.fine_tuning.jobs.resume(job.id)
    worker.resume()
    worker.succeed()
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded" and done.fine_tuned_model
    assert done.fine_tuned_model.startswith("ft:pinetune-mini:pinetune:expert:")
    assert (done.trained_tokens, done.finished_at is not None) == (4321, True)
    assert client.files.content(done.result_files[0]).text.startswith("step,train_mean_reward\n")
    assert client.files.retrieve(done.result_files[0]).purpose == "fine-tune-results"
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]  # paged one by one
    assert messages[0] == "The job has successfully completed"
    assert messages[1] == f"New fine-tuned model created: {done.fine_tuned_model}"
    assert messages[-1] == f"Created fine-tuning job: {job.id}"
    assert "Step 5/10 , train mean reward=0.5" in messages and "Files validated, moving job to queued state" in messages
    first = client.fine_tuning.jobs.list_events(job.id, limit=100)
    metrics = next(event for event in first if event.type == "metrics")
    assert metrics.data == {"step": 5, "total_steps": 10, "train_reward_mean": 0.5, "train_mean_reward": 0.5}
    assert [e.id for e in client.fine_tuning.jobs.list_events(job.id, after=first.data[2].id, limit=2)][:2] == [
        e.id for e in first.data[3:5]
    ]
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == (f"{done.fine_tuned_model}:ckpt-step-5", 5)
    assert (checkpoint.metrics.step, checkpoint.metrics.train_loss) == (5, None)
    assert checkpoint.metrics.train_mean_reward == 0.5  # type: ignore[attr-defined]
    with pytest.raises(BadRequestError, match="succeeded"):
        client.fine_tuning.jobs.cancel(job.id)


def test_cancel_with_an_empty_json_body(http: httpx.Client, rows_file: FileObject) -> None:
    made = http.post("/fine_tuning/jobs", json=job_body(rows_file.id)).json()
    reply = http.post(f"/fine_tuning/jobs/{made['id']}/cancel", headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    again = http.post(f"/fine_tuning/jobs/{made['id']}/cancel", headers={"content-type": "application/json"})
    assert again.status_code == 400  # not 409, which clients would try again
    assert set(again.json()["error"]) == {"message", "type", "param", "code"}


def test_lists_by_metadata(client: OpenAI, lenient: OpenAI, rows_file: FileObject) -> None:
    one = client.fine_tuning.jobs.create(**job_body(rows_file.id, metadata={"team": "a&b=[c]", "n": "1"}))
    client.fine_tuning.jobs.create(**job_body(rows_file.id, metadata={"team": "x"}))
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "a&b=[c]"})] == [one.id]
    assert one.metadata == {"team": "a&b=[c]", "n": "1"}
    bare = [job.metadata for job in lenient.fine_tuning.jobs.list(extra_query={"metadata": "null"}, limit=3)]
    assert set(map(str, bare)) <= {"None"}
    assert client.fine_tuning.jobs.list(limit=1).data[0].created_at >= one.created_at


def test_methods_and_the_legacy_place(client: OpenAI, rows_file: FileObject) -> None:
    bare = client.fine_tuning.jobs.create(model="pinetune-mini", training_file=rows_file.id, hyperparameters={"n_epochs": 3})
    assert bare.method and (bare.method.type, bare.hyperparameters.n_epochs, bare.hyperparameters.batch_size) == ("supervised", 3, "auto")
    dpo: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}
    job = client.fine_tuning.jobs.create(model="pinetune-mini", training_file=rows_file.id, method=dpo)
    assert job.method and job.method.dpo and job.method.dpo.hyperparameters and job.method.dpo.hyperparameters.beta == 0.1
    assert 0 <= job.seed <= 2147483647


HYPER = "method.reinforcement.hyperparameters"


def multi(formula: str) -> dict[str, Any]:
    return {"type": "multi", "graders": {"a": GRADER}, "calculate_output": formula}


def reinforcement(**changes: Any) -> dict[str, Any]:
    return {"method": {"type": "reinforcement", "reinforcement": {"grader": GRADER, **changes}}}


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"model": "gpt-17"}, "model", "gpt-17"),
        ({"model": None}, "model", "string"),
        ({"training_file": "file-none"}, "training_file", "does not exist"),
        ({"validation_file": "../secret"}, "validation_file", "does not exist"),
        ({"pinetune": {"test_file": "/etc/passwd"}}, "pinetune.test_file", "does not exist"),
        ({"suffix": ""}, "suffix", "at least 1"),
        ({"suffix": "x" * 65}, "suffix", "at most 64"),
        ({"suffix": "a:b"}, "suffix", "without"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "at most 16"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "at most 512"),
        ({"test_file": "file-1"}, "test_file", "did you mean 'training_file'"),
        (reinforcement(hyperparameters={"etest_samples": 3}), f"{HYPER}.etest_samples", "did you mean 'eval_samples'"),
        (reinforcement(hyperparameters={"batch_size": 0}), f"{HYPER}.batch_size", "greater than or equal to 1"),
        (reinforcement(hyperparameters={"compute_multiplier": 11}), f"{HYPER}.compute_multiplier", "10"),
        (reinforcement(grader={"type": "strong_check"}), "method.reinforcement.grader.type", "string_check"),
        (reinforcement(grader={**GRADER, "operation": "eqq"}), "method.reinforcement.grader.operation", "eq"),
        (reinforcement(grader={**GRADER, "reference": "{{row.answer}}"}), "method.reinforcement.grader.reference", "row"),
        (reinforcement(grader=multi("a + b")), "method.reinforcement.grader.calculate_output", "b"),
        (reinforcement(grader={"type": "score_model", "model": "local:/etc", "input": []}), "method.reinforcement.grader.model", "folder"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement", "missing"),
        ({"method": {"type": "ppo"}}, "method.type", "reinforcement"),
        ({"hyperparameters": {"n_epochs": 1}}, "hyperparameters", "no effect"),
        ({"pinetune": {"unsafe_python_graders": True}}, "pinetune.unsafe_python_graders", "operator"),
        ({"pinetune": {"judge_aliases": {"o3": "local:/root"}}}, "pinetune.judge_aliases.o3", "folder"),
    ],
)  # fmt: skip
def test_what_is_answered_at_once(http: httpx.Client, rows_file: FileObject, changes: dict[str, Any], param: str, says: str) -> None:
    reply = http.post("/fine_tuning/jobs", json=job_body(rows_file.id, **changes))
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error"), error
    assert says in error["message"]


def test_a_file_of_another_purpose(client: OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="vision")
    with pytest.raises(BadRequestError, match="purpose 'vision'") as wrong:
        client.fine_tuning.jobs.create(**job_body(file.id))
    assert wrong.value.param == "training_file"


def test_unknown_jobs_and_cursors(client: OpenAI, rows_file: FileObject) -> None:
    for ask in (client.fine_tuning.jobs.retrieve, client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.list_events):
        with pytest.raises(NotFoundError) as gone:
            ask("ftjob-none")
        assert (gone.value.code, gone.value.param) == ("fine_tune_not_found", "fine_tune_id")
    job = client.fine_tuning.jobs.create(**job_body(rows_file.id))
    with pytest.raises(BadRequestError) as lost:
        client.fine_tuning.jobs.list_events(job.id, after="ftevent-none")
    assert lost.value.param == "after"
    with pytest.raises(BadRequestError) as zero:
        client.fine_tuning.jobs.list(limit=0)
    assert zero.value.param == "limit"

"""A job that paused because its judges' budget was spent is given another and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from api_server import FakeWorker, Service, job_body
from openai.types import FileObject


def paused_job(http: httpx.Client, worker_of: Callable[[str], FakeWorker], file: str, own: dict[str, Any]) -> str:
    job: str = http.post("/fine_tuning/jobs", json=job_body(file, pinetune=own)).json()["id"]
    worker = worker_of(job)
    worker.start()
    worker.pause()
    return job


def test_a_paused_job_gets_another_budget(
    http: httpx.Client, service: Service, rows_file: FileObject, worker_of: Callable[[str], FakeWorker]
) -> None:
    own = {"judge_budget_tokens": 100, "judge_budget_usd": 1.5, "steps": 7}
    job = paused_job(http, worker_of, rows_file.id, own)
    reply = http.post(f"/pinetune/jobs/{job}/judge_budget", json={"tokens": 5000, "usd": None})
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "paused"
    assert reply.json()["pinetune"]["options"] == {"judge_budget_tokens": 5000, "steps": 7}
    said = http.get(f"/fine_tuning/jobs/{job}/events", params={"limit": 1}).json()["data"][0]["message"]
    assert said == "Changed: judge_budget_tokens 5000, judge_budget_usd without limit"
    assert http.post(f"/fine_tuning/jobs/{job}/resume").json()["status"] == "queued"
    assert service.store.jobs.get(job).body["pinetune"] == {"judge_budget_tokens": 5000, "steps": 7}
    late = http.post(f"/pinetune/jobs/{job}/judge_budget", json={"tokens": 1})
    assert (late.status_code, late.json()["error"]["message"]) == (400, f"Cannot change job {job}: it is queued, and must be paused")


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "tokens"), ({"tokens": 0}, "tokens"), ({"usd": -1}, "usd"), ({"usd": 3}, "usd"), ({"token": 5}, "token")],
)
def test_what_is_no_budget(
    http: httpx.Client, rows_file: FileObject, worker_of: Callable[[str], FakeWorker], body: dict[str, Any], param: str
) -> None:
    job = paused_job(http, worker_of, rows_file.id, {"judge_budget_tokens": 100})
    reply = http.post(f"/pinetune/jobs/{job}/judge_budget", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_nobody_else_s_job(http: httpx.Client) -> None:
    reply = http.post("/pinetune/jobs/ftjob-none/judge_budget", json={"tokens": 5})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "fine_tune_not_found")

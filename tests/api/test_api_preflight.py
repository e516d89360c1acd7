"""A job checked before it is created: the report in the API's words, faults as 400s, nothing stored."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_server import ROWS, Service, job_body, upload_rows
from openai import OpenAI
from openai.types import FileObject

from pinetune.api import preflight


def kinds(report: dict[str, Any], name: str) -> dict[str, str]:
    part = next(part for part in report["parts"] if part["name"] == name)
    return {finding["kind"]: finding["verdict"] for finding in part["findings"]}


@pytest.mark.slow
def test_a_job_is_checked_and_not_created(client: OpenAI, http: httpx.Client, service: Service) -> None:
    train, valid = upload_rows(client, ROWS[:10]), upload_rows(client, [*ROWS[10:], ROWS[9]], "valid.jsonl")
    before = service.store.jobs.counts()
    reply = http.post("/pinetune/preflight", json=job_body(train.id, validation_file=valid.id), timeout=300)
    report = reply.json()
    assert reply.status_code == 200, report
    assert (report["object"], [part["name"] for part in report["parts"]]) == ("preflight", ["data", "grader"])
    found = kinds(report, "data")
    assert found["few_rows"] == "look" and found["leaked_rows"] == "stop" == report["verdict"]
    leak = next(finding for finding in report["parts"][0]["findings"] if finding["kind"] == "leaked_rows")
    assert [(pair["file"], pair["line"], pair["other_file"], pair["other_line"]) for pair in leak["pairs"]] == [
        ("validation_file", 3, "training_file", 10)
    ]
    assert "shared_answers" not in found or found["shared_answers"] != "stop"  # a job of the server would start all the same
    assert report["parts"][1]["figures"]["rows"] == 8
    assert service.store.jobs.counts() == before


@pytest.mark.slow
def test_a_job_that_asks_for_its_check_is_created_only_if_it_may_go_on(client: OpenAI, http: httpx.Client, service: Service) -> None:
    train, valid = upload_rows(client, ROWS[:10]), upload_rows(client, [*ROWS[10:], ROWS[9]], "valid.jsonl")
    before = service.store.jobs.counts()
    asked = {"preflight": "require"}
    reply = http.post("/fine_tuning/jobs", json=job_body(train.id, validation_file=valid.id, pinetune=asked), timeout=300)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "preflight_stop", "pinetune.preflight")
    assert error["message"].startswith("The job was not created, as its check says stop: ") and "training_file" in error["message"]
    assert service.store.jobs.counts() == before
    sound = upload_rows(client, ROWS[10:], "valid.jsonl")
    reply = http.post("/fine_tuning/jobs", json=job_body(train.id, validation_file=sound.id, pinetune=asked), timeout=300)
    assert reply.status_code == 200, reply.json()
    assert client.fine_tuning.jobs.cancel(reply.json()["id"]).status == "cancelled"


@pytest.mark.slow
def test_rows_that_are_none_are_told_by_line_and_without_paths(client: OpenAI, http: httpx.Client) -> None:
    file = upload_rows(client, [*ROWS[:2], {"messages": []}])
    report = http.post("/pinetune/preflight", json=job_body(file.id), timeout=300).json()
    assert report["verdict"] == "stop"
    texts = [finding["text"] for finding in report["parts"][0]["findings"]]
    assert texts[0].startswith("training_file:3: messages: ") and texts[1].startswith("validation_file:3: messages: ")


@pytest.mark.slow
def test_a_judge_that_nobody_is_gives_no_report(http: httpx.Client, rows_file: FileObject, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PINETUNE_JUDGE_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PINETUNE_JUDGE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    judge = {"type": "score_model", "name": "j", "model": "gpt-4.1", "input": [{"role": "user", "content": "{{sample.output_text}}"}]}
    body = job_body(rows_file.id, method={"type": "reinforcement", "reinforcement": {"grader": judge}})
    reply = http.post("/pinetune/preflight", json=body, timeout=300)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("judge gpt-4.1: no endpoint is configured")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": "../secret"}, "training_file"),
        ({"method": {"type": "supervised"}}, "method.type"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "strong_check"}}}}, "method.reinforcement.grader.type"),
        ({"model": "gpt-17"}, "model"),
    ],
)
def test_a_body_that_creates_no_job_is_checked_as_little(
    http: httpx.Client, rows_file: FileObject, changes: dict[str, Any], param: str
) -> None:
    reply = http.post("/pinetune/preflight", json=job_body(rows_file.id, **changes))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_check_that_takes_too_long_is_ended(http: httpx.Client, rows_file: FileObject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "SECONDS", 0.01)
    reply = http.post("/pinetune/preflight", json=job_body(rows_file.id))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "preflight_too_long")

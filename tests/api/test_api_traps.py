"""What scripts and strangers really send: empty bodies, bombs, wrong types, unknown URLs; every error is OpenAI's envelope."""

from __future__ import annotations

import logging
import re
import sqlite3
from pathlib import Path

import httpx
import pytest
from api_server import Service, job_body, service_on
from openai import OpenAI
from openai.types import FileObject


def error_of(reply: httpx.Response) -> dict[str, str | None]:
    body = reply.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"].startswith("req_")
    found: dict[str, str | None] = body["error"]
    return found


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("POST", "/files/x/y/z"), ("GET", "/../../etc/passwd"), ("GET", "/")])
def test_unknown_urls(http: httpx.Client, method: str, path: str) -> None:
    reply = http.request(method, path)
    assert reply.status_code == 404
    assert (error_of(reply)["message"] or "").startswith(f"Invalid URL ({method} /")


def test_wrong_methods_say_which_are_right(http: httpx.Client) -> None:
    reply = http.put("/models")
    assert (reply.status_code, reply.headers["allow"], error_of(reply)["code"]) == (405, "GET", "method_not_allowed")


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_posts_with_an_empty_body_of_type_json(http: httpx.Client, rows_file: FileObject, verb: str) -> None:
    made = http.post("/fine_tuning/jobs", json=job_body(rows_file.id)).json()
    reply = http.post(f"/fine_tuning/jobs/{made['id']}/{verb}", headers={"content-type": "application/json"})
    if verb == "cancel":
        assert reply.json()["status"] == "cancelled"
    else:
        assert (reply.status_code, error_of(reply)["code"]) == (400, "invalid_state")
    deleted = http.request("DELETE", "/files/file-none", headers={"content-type": "application/json"})
    assert deleted.status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "missing_body", "needs a JSON body"),
        (b"{", "invalid_json", "parse"),
        (b"\xff\xfe{", "invalid_json", "parse"),
        (b'{"a": NaN}', "invalid_json", "NaN is not JSON"),
        (b'{"model": "\\ud800"}', "invalid_json", "surrogates not allowed"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "invalid_json", "too deeply"),
        (b"[" * 200 + b"]" * 200, "invalid_json", "too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "invalid_json", "digits"),
        (b"[1]", "invalid_type", "an array"),
        (b"null", "invalid_type", "null"),
    ],
)
def test_bodies_that_are_no_json_objects(http: httpx.Client, body: bytes, code: str, says: str) -> None:
    reply = http.post("/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, error_of(reply)["code"]) == (400, code)
    assert says in (error_of(reply)["message"] or "")


def test_a_body_larger_than_any_json_is(http: httpx.Client) -> None:
    reply = http.post("/fine_tuning/jobs", content=iter([b"[" + b" " * (1 << 20)] * 40))
    assert (reply.status_code, error_of(reply)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/fine_tuning/jobs?limit=x", "limit"),
        ("/fine_tuning/jobs?limit=-1", "limit"),
        ("/fine_tuning/jobs?after=nope", "after"),
        ("/fine_tuning/jobs?metadata=1", "metadata"),
        ("/files?order=up", "order"),
        ("/files?limit=10001", "limit"),
    ],
)
def test_query_parameters_of_the_wrong_kind(http: httpx.Client, path: str, param: str) -> None:
    reply = http.get(path)
    assert (reply.status_code, error_of(reply)["param"]) == (400, param)


def test_unknown_query_parameters_and_headers_change_nothing(http: httpx.Client) -> None:
    headers = {"openai-organization": "org-1", "openai-project": "proj_1", "openai-beta": "x", "x-stainless-lang": "python"}
    assert http.get("/files?api-version=2025-04-01&foo[]=1", headers=headers).status_code == 200


def test_wrong_types_name_their_place(http: httpx.Client, rows_file: FileObject) -> None:
    for changes, param in [
        ({"seed": "x"}, "seed"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": []}, "metadata"),
        ({"method": []}, "method"),
        ({"training_file": 7}, "training_file"),
        ({"integrations": [{"type": "wandb"}]}, "integrations.0.wandb"),
        ({"pinetune": {"steps": 0}}, "pinetune.steps"),
    ]:
        reply = http.post("/fine_tuning/jobs", json=job_body(rows_file.id, **changes))
        assert (reply.status_code, error_of(reply)["param"]) == (400, param), reply.text


def test_headers_of_every_reply(client: OpenAI) -> None:
    raw = client.models.with_raw_response.list()
    assert raw.headers["openai-version"] == "2020-10-01" and raw.headers["openai-organization"] == "pinetune"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert client.models.list()._request_id.startswith("req_")


def test_what_nobody_foresaw_is_a_500_that_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with service_on(tmp_path) as service, service.http() as http:
        monkeypatch.setattr(service.store.jobs, "get", lambda *_: 1 / 0)
        with caplog.at_level(logging.ERROR, "pinetune.api"):
            reply = http.get("/fine_tuning/jobs/ftjob-1")
    assert (reply.status_code, error_of(reply)["type"]) == (500, "server_error")
    assert "division" not in reply.text and reply.headers["x-request-id"] in reply.text
    assert "ZeroDivisionError" in caplog.text


def test_a_locked_store_is_503_with_a_hint(tmp_path: Path) -> None:
    with service_on(tmp_path, busy_seconds=0.1) as service, service.http() as http:
        other = sqlite3.connect(tmp_path / "pinetune.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        reply = http.post("/files", data={"purpose": "evals"}, files={"file": ("a.jsonl", b"{}")})
        assert (reply.status_code, error_of(reply)["code"], reply.headers["retry-after"]) == (503, "storage_busy", "2")
        assert http.get("/files").status_code == 200  # readers wait for nobody
        other.rollback()
        other.close()
        assert http.post("/files", data={"purpose": "evals"}, files={"file": ("a.jsonl", b"{}")}).status_code == 200


def test_metrics_count_routes_not_paths(service: Service, http: httpx.Client) -> None:
    http.get("/files/file-none")
    text = http.get(service.url + "/metrics").text
    assert 'pinetune_requests_total{method="GET",route="/v1/files/{file_id}",status="404"}' in text
    assert "file-none" not in text
    assert 'pinetune_jobs{status="running"}' in text and "pinetune_queue_jobs" in text
    assert f"pinetune_job_events {service.store.events.count():.1f}" in text


ENDPOINTS = """
GET POST /files
GET DELETE /files/{}
GET /files/{}/content
GET POST /fine_tuning/jobs
GET /fine_tuning/jobs/{}
GET /fine_tuning/jobs/{}/events
GET /fine_tuning/jobs/{}/checkpoints
POST /fine_tuning/jobs/{}/cancel
POST /fine_tuning/jobs/{}/pause
POST /fine_tuning/jobs/{}/resume
POST /fine_tuning/alpha/graders/validate
POST /fine_tuning/alpha/graders/run
POST /responses
GET DELETE /responses/{}
GET /responses/{}/input_items
POST /responses/{}/cancel
POST /responses/input_tokens
GET POST /chat/completions
GET POST DELETE /chat/completions/{}
GET /chat/completions/{}/messages
GET /models
GET DELETE /models/{}
POST /uploads
POST /uploads/{}/parts
POST /uploads/{}/complete
POST /uploads/{}/cancel
GET POST /fine_tuning/checkpoints/{}/permissions
DELETE /fine_tuning/checkpoints/{}/permissions/{}
POST /embeddings
GET POST /evals
GET POST DELETE /evals/{}
GET POST /evals/{}/runs
GET POST DELETE /evals/{}/runs/{}
POST /evals/{}/runs/{}/cancel
GET /evals/{}/runs/{}/output_items
GET /evals/{}/runs/{}/output_items/{}
"""


def test_the_openapi_document_has_every_endpoint(http: httpx.Client, service: Service) -> None:
    document = http.get(service.url + "/openapi.json").json()
    have = {f"{verb.upper()} {re.sub('{[^}]*}', '{}', path)}" for path, verbs in document["paths"].items() for verb in verbs}
    wanted = {f"{verb} /v1{line.split()[-1]}" for line in ENDPOINTS.strip().splitlines() for verb in line.split()[:-1]}
    assert wanted - have == set()
    ids = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(ids) == len(set(ids))
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"

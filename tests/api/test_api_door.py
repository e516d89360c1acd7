"""Who is let in: keys, projects, rate limits, browsers; and that nothing secret leaves."""

from __future__ import annotations

import json
import logging
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import GRADER, Service, connect, job_body, prepare, service_on, upload_rows
from openai import AuthenticationError, NotFoundError, RateLimitError

from pinetune.api.app import create_app
from pinetune.api.limits import Buckets
from pinetune.api.logs import JsonLines
from pinetune.errors import UserError
from pinetune.settings import Settings
from pinetune.store import Store


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[Service, str, str]]:
    """A server with two projects, and a key of each."""
    prepare(tmp_path)
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        mine = store.keys.create("mine")[1]
        other = store.keys.create("other", store.projects.create("other").id)[1]
    with service_on(tmp_path) as running:
        yield running, mine, other


def test_without_a_key(locked: tuple[Service, str, str]) -> None:
    service, mine, _ = locked
    with service.http() as http:
        for path in ("/models", "/files/file-1", "/chat/completions", "/pinetune/webhooks"):
            reply = http.get(path)
            assert (reply.status_code, reply.json()["error"]["type"]) == (401, "invalid_request_error")
        assert http.post("/fine_tuning/jobs", content=b"not json").status_code == 401  # the door comes first
        assert http.get("/models", headers={"api-key": mine}).status_code == 200  # Azure's clients
        assert http.get(service.url + "/healthz").json()["status"] == "ok"
        assert http.get(service.url + "/metrics").status_code == 401


def test_wrong_and_revoked_keys(locked: tuple[Service, str, str]) -> None:
    service, mine, _ = locked
    with connect(service.url, "sk-pt-wrong-wrong-wrong-wrong") as client, pytest.raises(AuthenticationError) as wrong:
        client.models.list()
    assert wrong.value.code == "invalid_api_key"
    assert "wrong-wrong" not in str(wrong.value)
    with connect(service.url, mine) as client:
        assert client.models.list().data
        service.store.keys.revoke(mine[:12])
        with pytest.raises(AuthenticationError):
            client.models.list()


def test_a_browser_may_send_the_key_as_a_password_to_reports_only(locked: tuple[Service, str, str]) -> None:
    service, mine, other = locked
    job = service.store.evals.create("proj_default", {"data_source_config": {"type": "logs"}, "testing_criteria": [GRADER]})
    run = service.store.eval_runs.create(job.id, "proj_default", {"data_source": {"type": "jsonl"}}, name="r")
    page, plain = f"/pinetune/evals/{job.id}/runs/{run.id}/report", f"/evals/{job.id}/runs/{run.id}"
    with service.http() as http:
        asked = http.get(page)
        assert (asked.status_code, asked.headers["www-authenticate"][:14]) == (401, 'Basic realm="P')
        assert "www-authenticate" not in http.get(plain).headers
        assert http.get(page, auth=("", mine)).status_code == 200
        assert http.get(page, auth=("me", other)).status_code == 404
        for wrong in ("Basic ***", "Basic /w==", "Basic"):
            assert http.get(page, headers={"authorization": wrong}).status_code == 401
        assert http.get(plain, auth=("", mine)).status_code == 401  # other sites' pages can make a browser ask this
        assert http.post(page, auth=("", mine)).status_code == 405
        assert http.post("/pinetune/preflight/report", auth=("", mine)).status_code == 404


def test_revoking_the_last_key_locks_and_does_not_open(tmp_path: Path) -> None:
    prepare(tmp_path)
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        store.keys.revoke(store.keys.create("mine")[0].id)
    with service_on(tmp_path) as service, service.http() as http:
        assert http.get("/models").status_code == 401


def test_what_belongs_to_another_project_is_not_there(locked: tuple[Service, str, str]) -> None:
    service, mine, other = locked
    with connect(service.url, mine) as owner, connect(service.url, other) as stranger:
        file = upload_rows(owner)
        job = owner.fine_tuning.jobs.create(**job_body(file.id))
        tries = [
            lambda: stranger.files.retrieve(file.id),
            lambda: stranger.files.content(file.id),
            lambda: stranger.files.delete(file.id),
            lambda: stranger.fine_tuning.jobs.retrieve(job.id),
            lambda: stranger.fine_tuning.jobs.cancel(job.id),
            lambda: stranger.fine_tuning.jobs.list_events(job.id),
            lambda: stranger.fine_tuning.jobs.checkpoints.list(job.id),
        ]
        for attempt in tries:
            with pytest.raises(NotFoundError):
                attempt()
        with pytest.raises(Exception, match="does not exist"):
            stranger.fine_tuning.jobs.create(**job_body(file.id))
        assert stranger.files.list().data == [] and stranger.fine_tuning.jobs.list().data == []


def test_rate_limits(tmp_path: Path) -> None:
    prepare(tmp_path)
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        key = store.keys.create("mine")[1]
    with service_on(tmp_path, rate_limit=1) as service, connect(service.url, key) as client:  # the next one is a minute away
        first = client.models.with_raw_response.list()
        assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("1", "0")
        with pytest.raises(RateLimitError) as over:
            client.models.list()
        assert (over.value.code, over.value.response.headers["x-ratelimit-remaining-requests"]) == ("rate_limit_exceeded", "0")
        assert 1 <= int(over.value.response.headers["retry-after"]) <= 60


def test_buckets_refill_steadily() -> None:
    clock = [0.0]
    buckets = Buckets(60, now=lambda: clock[0])
    for _ in range(60):
        assert buckets.take("a").wait_seconds == 0  # type: ignore[union-attr]
    assert buckets.take("a").wait_seconds == 1.0  # type: ignore[union-attr]
    assert buckets.take("b").remaining == 59  # type: ignore[union-attr]
    clock[0] = 1.5
    assert buckets.take("a").wait_seconds == 0  # type: ignore[union-attr]
    assert buckets.take("a").wait_seconds == 0.5  # type: ignore[union-attr]
    assert Buckets(0).take("a") is None


def test_web_pages_and_rebound_names_stay_out_where_there_are_no_keys(tmp_path: Path) -> None:
    with service_on(tmp_path) as service, service.http() as http:
        page = http.get("/models", headers={"origin": "https://evil.example"})
        assert (page.status_code, page.json()["error"]["code"]) == (403, "origin_not_allowed")
        rebound = http.get("/models", headers={"host": "evil.example:8000"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "host_not_allowed")
        assert http.get("/models", headers={"origin": "http://localhost:3000"}).status_code == 200
        assert http.get("/models", headers={"host": "["}).status_code in (400, 403)


def test_a_server_others_reach_insists_on_a_key(tmp_path: Path) -> None:
    settings = Settings.read({}, home=tmp_path, host="0.0.0.0")
    prepare(tmp_path)
    with Store.open(settings) as store:
        with pytest.raises(UserError, match="pinetune keys create"):
            create_app(settings, store)
        store.keys.create("mine")
        create_app(settings, store)


def test_keys_that_appear_while_it_runs_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.api.auth.ANY_KEY_SECONDS", 0.0)
    with service_on(tmp_path) as service, service.http() as http:
        assert http.get("/models").status_code == 200
        service.store.keys.create("mine")
        assert http.get("/models").status_code == 401


def test_secrets_are_hidden_in_logs() -> None:
    record = logging.LogRecord("pinetune.api", logging.INFO, "", 0, "sent Bearer %s", ("sk-pt-aaaaaaaaaaaaaaaa",), None)
    record.request = {"request_id": "req_1", "path": "/v1/x"}
    line = JsonLines().format(record)
    assert '"request_id": "req_1"' in line and '"message": "sent [hidden]"' in line


@pytest.mark.parametrize("path", ["/v1/files", "/v1/fine_tuning/jobs"])
def test_a_refusal_reaches_a_client_that_is_still_sending(locked: tuple[Service, str, str], path: str) -> None:
    """Closing on unread bytes would reset the connection, and the client would see that instead of the reply."""
    host, port = locked[0].url.removeprefix("http://").removesuffix("/v1").split(":")
    length = 8 << 20
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert select.select([client], [], [], 60)[0], "no reply before the body"
        for _ in range(length >> 16):
            client.sendall(b" " * (1 << 16))
        reply = b""
        while piece := client.recv(1 << 16):
            reply += piece
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"

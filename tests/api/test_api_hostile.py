"""Strangers and attackers: each gets OpenAI's envelope and learns nothing; the server and what it keeps are as before.

Everything here asks one locked server with a small upload limit; `leaks` looks at every reply and, in the end, at every log line.
"""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from api_server import GRADER, PATIENCE, ROWS, Service, job_body, prepare, service_on

from pinetune.api.logs import JsonLines
from pinetune.settings import Settings
from pinetune.store import Store

LIMIT = 1 << 20  # bytes of a file, on this server
SECRET_CONTENT = b'{"messages": [{"role": "user", "content": "the owner\'s secret row"}]}\n'


@dataclass
class Locked:
    """A server with keys: of the owner, of a stranger in another project, and one that was revoked."""

    service: Service
    owner: str
    stranger: str
    revoked: str
    file: str  # the owner's
    logged: list[str]

    def http(self, key: str) -> httpx.Client:
        return self.service.http(headers={"authorization": f"Bearer {key}"})

    def leaks(self, text: str) -> list[str]:
        secrets = [self.owner, self.stranger, self.revoked, "the owner's secret row"]
        places = [str(self.service.settings.home), "site-packages", "Traceback", "sqlite"]
        return [found for found in (*secrets, *places) if found in text]

    def refused(self, reply: httpx.Response, status: int, code: str | None = None) -> str:
        """The message of an error that is OpenAI's envelope and tells nothing it should not."""
        assert reply.status_code == status, reply.text[:500]
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and len(error["message"]) < 6000
        assert code is None or error["code"] == code
        assert self.leaks(reply.text) == []
        return str(error["message"])


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    home = tmp_path_factory.mktemp("locked") / "home"
    prepare(home)
    with Store.open(Settings.read({}, home=home)) as store:
        keys = [store.keys.create(name, project) for name, project in _projects(store)]
        store.keys.revoke(keys[2][0].id)
    logged: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(JsonLines())
    handler.emit = lambda record: logged.append(handler.format(record))  # type: ignore[method-assign]
    root = logging.getLogger("pinetune")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with service_on(home, max_file_bytes=LIMIT) as service:
        file = service.store.files.create(service.store.projects.list()[0].id, "fine-tune", "owner.jsonl", SECRET_CONTENT)
        yield Locked(service, keys[0][1], keys[1][1], keys[2][1], file.id, logged)
    root.removeHandler(handler)
    root.setLevel(level)


def _projects(store: Store) -> list[tuple[str, str]]:
    own = store.projects.list()[0].id
    return [("owner", own), ("stranger", store.projects.create("other").id), ("revoked", own)]


@pytest.fixture(autouse=True)
def unharmed(locked: Locked) -> Iterator[None]:
    """After each attack the server answers, and the owner's file is what it was; no half-written blob is left."""
    before = everything_outside(locked)
    yield
    with locked.http(locked.owner) as http:
        assert http.get(f"/files/{locked.file}/content").content == SECRET_CONTENT
        assert http.get(locked.service.url + "/healthz").json()["status"] == "ok"
    assert everything_outside(locked) == before
    assert list((locked.service.settings.home / "files" / "incoming").glob("*")) == []
    assert [line for line in locked.logged if locked.leaks(line)] == []


def everything_outside(locked: Locked) -> list[str]:
    """What lies in and beside the home folder, but for the stored blobs and the database's own files."""
    home: Path = locked.service.settings.home
    names = [path.relative_to(home.parent).as_posix() for path in home.parent.rglob("*")]
    return sorted(name for name in names if not name.startswith(("home/files/", "home/pinetune.db")))


def upload(http: httpx.Client, name: str, content: Any, purpose: str = "fine-tune") -> httpx.Response:
    return http.post("/files", data={"purpose": purpose}, files={"file": (name, content)})


@pytest.mark.parametrize("key", ["sk-pt-0123456789abcdefghijklmn", "x", "\x7f" * 3000, "Bearer Bearer", "' OR 1=1 --"])
def test_wrong_keys(locked: Locked, key: str) -> None:
    with locked.http(key) as http:
        for ask in (lambda: http.get("/files"), lambda: http.get(f"/files/{locked.file}/content"), lambda: upload(http, "a.jsonl", b"{}")):
            said = locked.refused(ask(), 401)
            assert len(key) < 20 or key not in said


def test_a_revoked_key(locked: Locked) -> None:
    with locked.http(locked.revoked) as http:
        assert "revoked" in locked.refused(http.get(f"/files/{locked.file}"), 401, "invalid_api_key")


def test_another_project_s_file_is_nowhere_to_be_had(locked: Locked) -> None:
    with locked.http(locked.stranger) as http:
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert locked.refused(http.request(method, f"/files/{locked.file}{path}"), 404) == f"No such File object: {locked.file}"
        mine = upload(http, "mine.jsonl", json.dumps(ROWS[0]).encode()).json()["id"]
        for param in ("training_file", "validation_file"):
            body = {**job_body(mine), param: locked.file}
            reply = http.post("/fine_tuning/jobs", json=body)
            assert locked.refused(reply, 400, "file_not_found") == f"{param}: file {locked.file} does not exist"
        test_file = http.post("/fine_tuning/jobs", json=job_body(mine, pinetune={"test_file": locked.file}))
        locked.refused(test_file, 400, "file_not_found")
        assert locked.file not in http.get("/files").text
        locked.refused(http.post("/pinetune/preflight", json=job_body(locked.file)), 400, "file_not_found")
        made = http.post("/evals", json={"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [GRADER]}).json()
        rows = {"type": "jsonl", "source": {"type": "file_id", "id": locked.file}}
        locked.refused(http.post(f"/evals/{made['id']}/runs", json={"data_source": rows}), 400)
        part = http.post("/uploads", json={"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 2, "mime_type": "text/jsonl"}).json()
        locked.refused(http.post(f"/uploads/{part['id']}/complete", json={"part_ids": [locked.file]}), 400)


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x.jsonl", "..\\..\\x.jsonl", "/etc/passwd.jsonl", "....//x.jsonl", "~/x.jsonl", "C:\\x.jsonl", "a/b/c.jsonl"],
)
def test_names_are_never_paths(locked: Locked, name: str) -> None:
    with locked.http(locked.owner) as http:
        file = upload(http, name, b"{}").json()
        assert http.get(f"/files/{file['id']}/content").content == b"{}"
        assert http.delete(f"/files/{file['id']}").json()["deleted"] is True
        body = {"filename": name, "purpose": "fine-tune", "bytes": 2, "mime_type": "text/jsonl"}
        assert http.post("/uploads", json=body).status_code in (200, 400)
        locked.refused(http.post("/fine_tuning/jobs", json=job_body(locked.file, suffix=name)), 400)
        locked.refused(http.post("/fine_tuning/jobs", json={**job_body(locked.file), "model": name}), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2f..%2fpinetune.db/content", "/files/%2e%2e/content", "/files/..%2f..%2f..%2fetc%2fpasswd", "/files/%00/content",
        "/models/..%2f..%2f..%2fetc%2fpasswd", "/fine_tuning/jobs/..%2f..%2fpinetune.db", "/fine_tuning/jobs/%2e%2e%2f/events",
        "/pinetune/jobs/..%2f..%2f/report", "/pinetune/jobs/ftjob-x/report/..%2f..%2fjob.json", "/uploads/..%2f/cancel",
        "/%2e%2e/%2e%2e/etc/passwd", "/files/" + "A" * 5000, "/files/" + "%F0%9F%92%A3" * 500,
    ],
)  # fmt: skip
def test_ids_are_never_paths(locked: Locked, path: str) -> None:
    with locked.http(locked.owner) as http:
        for method in ("GET", "POST", "DELETE"):
            reply = http.request(method, httpx.URL(str(http.base_url).rstrip("/") + path))
            assert reply.status_code in (400, 404, 405), reply.text[:300]
            locked.refused(reply, reply.status_code)


def raw(locked: Locked, head: str, body: bytes) -> bytes:
    """What the server says to a request that announces more than it sends; the connection stays open on our side."""
    address = urlsplit(locked.service.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        found = b""
        while b"}}" not in found:
            piece = connection.recv(65536)
            if not piece:
                break
            found += piece
        return found


@pytest.mark.parametrize(("path", "kind"), [("/v1/files", "multipart/form-data; boundary=b"), ("/v1/fine_tuning/jobs", "application/json")])
def test_ten_gigabytes_are_refused_before_they_come(locked: Locked, path: str, kind: str) -> None:
    head = f"POST {path} HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {locked.owner}\nContent-Type: {kind}\nContent-Length: {10 << 30}"
    answer = raw(locked, head, b"--b\r\n").decode()
    assert answer.startswith("HTTP/1.1 413 ") and '"message"' in answer and "connection: close" in answer.lower()
    assert locked.leaks(answer) == []


def test_ten_gigabytes_in_parts_are_more_than_an_upload_may_have(locked: Locked) -> None:
    with locked.http(locked.owner) as http:
        body = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 10 << 30, "mime_type": "text/jsonl"}
        locked.refused(http.post("/uploads", json=body), 400)


def test_one_byte_more_than_allowed_and_bytes_that_nobody_announced(locked: Locked) -> None:
    with locked.http(locked.owner) as http:
        assert upload(http, "a.jsonl", b"x" * LIMIT).status_code == 200
        assert f"{LIMIT:,}" in locked.refused(upload(http, "a.jsonl", b"x" * (LIMIT + 1)), 413, "file_too_large")
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        endless = iter([head, *[b"x" * (1 << 16)] * 64])  # chunked: no length is told
        reply = http.post("/files", content=endless, headers={"content-type": "multipart/form-data; boundary=b"})
        locked.refused(reply, 413, "file_too_large")


DEEP = b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BOMBS = {
    "deep": DEEP,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "huge number": b'{"seed": ' + b"9" * 1_000_000 + b"}",
    "number beyond 64 bits": b'{"seed": ' + b"9" * 4000 + b"}",
    "infinite number": b'{"seed": 1e999}',
    "wide": b'{"metadata": {' + b",".join(b'"k%d": "v"' % i for i in range(100_000)) + b"}}",
    "long text": b'{"suffix": "' + b"x" * 5_000_000 + b'"}',
    "gzip": gzip.compress(b'{"suffix": "' + b"x" * 5_000_000 + b'"}'),
    "half a surrogate": b'{"model": "\\udcff"}',
    "other encoding": '{"model": "x"}'.encode("utf-16"),
    "twice the same key": b'{"model": "a", "model": {"b": [1e400]}}',
}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/fine_tuning/jobs", "/fine_tuning/alpha/graders/run", "/evals"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_json_bombs(locked: Locked, path: str, bomb: str) -> None:
    headers = {"content-type": "application/json", **({"content-encoding": "gzip"} if bomb == "gzip" else {})}
    with locked.http(locked.owner) as http:
        locked.refused(http.post(path, content=BOMBS[bomb], headers=headers), 400)


@pytest.mark.parametrize(
    "formula", ["9^9^9^9^9", "exp(exp(exp(exp(9))))", "(" * 3000 + "a" + ")" * 3000, "a" + "+a" * 50_000, "1/0*a", "a^0.5^-999999"]
)
def test_formula_bombs(locked: Locked, formula: str) -> None:
    grader = {"type": "multi", "graders": {"a": GRADER}, "calculate_output": formula}
    body = {"grader": grader, "model_sample": "7", "item": {"reference_answer": "7"}}
    with locked.http(locked.owner) as http:
        reply = http.post("/fine_tuning/alpha/graders/run", json=body)
        if reply.status_code != 200:
            locked.refused(reply, 400)
        else:
            errors = reply.json()["metadata"]["errors"]
            assert reply.json()["reward"] == 0 and (errors["formula_parse_error"] or errors["other_error"])


def test_nothing_secret_was_logged_and_something_was(locked: Locked) -> None:
    assert len(locked.logged) > 30
    assert [line for line in locked.logged if locked.leaks(line)] == []
    assert all(isinstance(json.loads(line), dict) for line in locked.logged)

"""Files through the official client, and the multipart bodies that clients do not send."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest
from api_server import PATIENCE, ROWS, Service, connect, service_on, upload_rows
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import FileObject


def test_a_file_goes_round(client: OpenAI) -> None:
    file = upload_rows(client)
    assert file.id.startswith("file-") and len(file.id) == 27
    assert (file.filename, file.purpose, file.status, file.expires_at) == ("train.jsonl", "fine-tune", "processed", None)
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert [json.loads(line) for line in content.text.splitlines()] == ROWS
    assert file.bytes == len(content.read()) == int(content.response.headers["content-length"])
    with pytest.warns(DeprecationWarning):
        assert client.files.retrieve_content(file.id) == content.text
    assert client.files.wait_for_processing(file.id).status == "processed"
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    with pytest.raises(NotFoundError, match="No such File object") as gone:
        client.files.retrieve(file.id)
    assert gone.value.param == "id"


def test_lists_filter_order_and_page(client: OpenAI) -> None:
    mine = [client.files.create(file=(f"{i}.jsonl", b"{}"), purpose="vision") for i in range(3)]
    newest = [file.id for file in reversed(mine)]
    assert [file.id for file in client.files.list(purpose="vision")] == newest
    assert [file.id for file in client.files.list(purpose="vision", limit=1)] == newest  # the client pages by itself
    assert [file.id for file in client.files.list(purpose="vision", order="asc")] == newest[::-1]
    page = client.files.list(purpose="vision", limit=2)
    assert page.has_more and [page.first_id, page.last_id] == newest[:2]  # type: ignore[attr-defined]


def test_eval_rows_have_a_purpose_of_their_own(lenient: OpenAI) -> None:
    assert lenient.files.create(file=("a.jsonl", b"{}"), purpose="evals").purpose == "evals"


def test_expiry(client: OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(BadRequestError) as short:
        client.files.create(file=("a.jsonl", b"{}"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3599})
    assert short.value.param == "expires_after.seconds"


def test_what_cannot_be_uploaded(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="jsonl") as wrong:
        client.files.create(file=("rows.csv", b"a,b"), purpose="fine-tune")
    assert (wrong.value.param, wrong.value.type) == ("file", "invalid_request_error")
    with pytest.raises(BadRequestError, match="'assistants'") as wrong:
        client.files.create(file=("rows.csv", b"a,b"), purpose="fine-tune-results")  # type: ignore[arg-type]
    assert wrong.value.param == "purpose"


def test_fields_after_the_file_and_unknown_ones(http: httpx.Client) -> None:
    boundary = "x" * 20
    pieces = [("file", '; filename="../../etc/passwd.jsonl"', "{}"), ("purpose", "", "fine-tune"), ("note", "", "kept out")]
    body = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"{more}\r\n\r\n{text}\r\n' for n, more, text in pieces)
    reply = http.post("/files", content=body + f"--{boundary}--\r\n", headers={"content-type": f"multipart/form-data; boundary={boundary}"})
    assert reply.status_code == 200, reply.text
    assert (reply.json()["filename"], reply.json()["bytes"]) == ("../../etc/passwd.jsonl", 2)  # a name, never a path


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("application/json", b"{}", "multipart/form-data"),
        ("multipart/form-data", b"", "boundary"),
        ("multipart/form-data; boundary=b", b"", "ends too early"),
        ("multipart/form-data; boundary=b", b"garbage", "cannot be read"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nevals\r\n--b--\r\n",
            "'file' is a required",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nx\r\n--b--\r\n",
            "purpose",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf a fi",
            "ends too early",
        ),
    ],
)
def test_wrong_multipart_bodies(http: httpx.Client, service: Service, content_type: str, body: bytes, says: str) -> None:
    before = service.store.files.list().items
    reply = http.post("/files", content=body, headers={"content-type": content_type})
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]
    assert service.store.files.list().items == before


def test_files_beyond_the_limit_leave_nothing(tmp_path: Path) -> None:
    with service_on(tmp_path, max_file_bytes=1000) as small, connect(small.url) as client:
        assert isinstance(client.files.create(file=("a.jsonl", b"x" * 1000), purpose="vision"), FileObject)
        head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n"
        with socket.create_connection(("127.0.0.1", int(small.url.rsplit(":", 1)[1])), timeout=PATIENCE) as raw:
            raw.sendall(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n")
            told = raw.makefile("rb").read()  # answered and closed before the other gigabytes came
        assert told.startswith(b"HTTP/1.1 413 ") and b'"code":"file_too_large"' in told
        with small.http() as http:
            sent = http.post("/files", data={"purpose": "evals"}, files={"file": ("a.jsonl", b"x" * 1001)})
            assert (sent.status_code, sent.json()["error"]["param"]) == (413, "file")
        assert len(client.files.list().data) == 1
        blobs = list((tmp_path / "files").rglob("*"))
        assert [path.stat().st_size for path in blobs if path.is_file()] == [1000]


def test_senders_who_fall_silent_give_their_place_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.api.multipart.STALLED_SECONDS", 0.2)
    before = service.store.files.list().items
    head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    with socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), timeout=PATIENCE) as raw:
        raw.sendall(head + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n")
        told = raw.makefile("rb").read()
    assert told.startswith(b"HTTP/1.1 408 ") and b"upload_stalled" in told
    assert service.store.files.list().items == before

"""Uploads in parts through the official client."""

from __future__ import annotations

import hashlib
import io

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

LINE = b'{"messages": []}\n'


def test_chunked_upload_by_the_client_s_helper(client: OpenAI) -> None:
    content = LINE * 1000
    md5 = hashlib.md5(content).hexdigest()
    options = {"filename": "train.jsonl", "bytes": len(content), "mime_type": "application/jsonl", "purpose": "fine-tune", "md5": md5}
    upload = client.uploads.upload_file_chunked(file=content, part_size=5000, **options)  # type: ignore[call-overload]
    assert (upload.status, upload.bytes) == ("completed", len(content))
    assert client.files.content(upload.file.id).read() == content
    assert (upload.file.purpose, upload.file.filename) == ("fine-tune", "train.jsonl")


def test_parts_are_joined_in_the_order_named(client: OpenAI) -> None:
    upload = client.uploads.create(bytes=6, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert (upload.status, upload.expires_at - upload.created_at, upload.file) == ("pending", 3600, None)
    second, first = (client.uploads.parts.create(upload.id, data=io.BytesIO(text)) for text in (b"def", b"abc"))
    assert second.upload_id == upload.id
    with pytest.raises(BadRequestError, match="3 bytes") as short:
        client.uploads.complete(upload.id, part_ids=[first.id])
    assert short.value.code == "invalid_parts"
    with pytest.raises(BadRequestError, match="md5"):
        client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5="0" * 32)
    with pytest.raises(BadRequestError) as unknown:
        client.uploads.complete(upload.id, part_ids=["part_none"])
    assert unknown.value.param == "part_ids"
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
    assert done.file and client.files.content(done.file.id).read() == b"abcdef"
    with pytest.raises(BadRequestError, match="completed"):
        client.uploads.cancel(upload.id)


def test_cancelled_uploads_take_no_parts(client: OpenAI) -> None:
    upload = client.uploads.create(bytes=3, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(BadRequestError, match="cancelled"):
        client.uploads.parts.create(upload.id, data=b"abc")
    with pytest.raises(NotFoundError):
        client.uploads.cancel("upload_none")


def test_more_than_announced(client: OpenAI, http: httpx.Client) -> None:
    upload = client.uploads.create(bytes=3, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert http.post(f"/uploads/{upload.id}/parts", files={"data": ("p", b"abcd")}).status_code == 413
    missing = http.post(f"/uploads/{upload.id}/parts", files={"other": ("p", b"a")})
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "data")
    with pytest.raises(BadRequestError) as wrong:
        client.uploads.create(bytes=-1, filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert wrong.value.param == "bytes"
    with pytest.raises(BadRequestError, match="jsonl"):
        client.uploads.create(bytes=1, filename="a.csv", mime_type="text/csv", purpose="fine-tune")

"""Requests for models go to the serving process and its replies come back: whole, streamed, broken off, or not at all."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import PATIENCE, Service, connect, listening, service_on
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from openai import InternalServerError, NotFoundError

CHOICE = '{"index":0,"delta":{"content":"%s"},"finish_reason":null}'
CHUNK = 'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[' + CHOICE + "]}\n\n"


class FakeServing:
    """Says what it was sent, streams slowly, and notices when nobody listens any more."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.left = 0
        self.app = FastAPI()
        self.app.add_api_route("/v1/chat/completions", self.chat, methods=["POST", "GET"])
        self.app.add_api_route("/v1/{rest:path}", self.missing, methods=["GET", "POST", "DELETE"])

    async def chat(self, request: Request) -> Any:
        body = await request.body()
        self.seen.append({"headers": dict(request.headers), "body": body, "query": request.url.query})
        if b'"wait"' in body:
            try:
                await self._until_left(request)
            finally:
                self.left += 1
        if b'"stream":true' not in body:
            return JSONResponse(
                {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}, headers={"x-own": "1"}
            )
        return StreamingResponse(self.words(20 if b'"few"' in body else 1000), media_type="text/event-stream")

    async def words(self, number: int) -> AsyncIterator[str]:
        try:
            for i in range(number):
                yield CHUNK % i
                await asyncio.sleep(0.005)
        finally:
            self.left += 1

    async def missing(self, rest: str) -> JSONResponse:
        error = {"message": f"No {rest}", "type": "invalid_request_error", "param": None, "code": None}
        return JSONResponse({"error": error}, status_code=404)

    async def _until_left(self, request: Request) -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)

    def wait_left(self, count: int) -> None:
        until = time.monotonic() + PATIENCE
        while self.left < count:
            assert time.monotonic() < until, "serving did not notice that the caller left"
            time.sleep(0.01)


@pytest.fixture
def serving() -> FakeServing:
    return FakeServing()


@pytest.fixture
def linked(serving: FakeServing, tmp_path: Path) -> Iterator[Service]:
    with listening(serving.app) as url, service_on(tmp_path, url, "s3cret") as running:
        yield running


def test_what_serving_is_shown(linked: Service, serving: FakeServing) -> None:
    with connect(linked.url, "users-own-key") as client:
        client.chat.completions.list(model="m", metadata={"a": "b"}, extra_headers={"X-Client-Request-Id": "mine"})
    (seen,) = serving.seen
    assert seen["headers"]["authorization"] == "Bearer s3cret"  # not the user's key
    assert seen["headers"]["x-pinetune-project"] == "proj_default"
    assert seen["headers"]["x-client-request-id"] == "mine"
    assert sorted(seen["query"].split("&")) == ["metadata%5Ba%5D=b", "model=m"]
    with linked.http() as http:
        reply = http.post("/chat/completions", json={"a": 1}, headers={"x-pinetune-project": "proj_of_another"})
    assert serving.seen[1]["headers"]["x-pinetune-project"] == "proj_default"
    assert (reply.headers["x-own"], reply.headers["content-type"]) == ("1", "application/json")
    assert reply.headers["x-request-id"].startswith("req_") and reply.headers["openai-version"] == "2020-10-01"


def test_streams_pass_through_and_end_with_the_caller(linked: Service, serving: FakeServing) -> None:
    with connect(linked.url) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        words = [next(stream).choices[0].delta.content for _ in range(3)]
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        stream.close()
    assert words == ["0", "1", "2"]
    serving.wait_left(1)


@pytest.mark.slow
def test_two_hundred_streams_at_once_lose_nothing(linked: Service) -> None:
    async def ask(http: httpx.AsyncClient) -> int:
        async with http.stream("POST", "/chat/completions", content=b'{"model": "few","stream":true}') as reply:
            return (await reply.aread()).count(b"data: ")

    async def all_of_them() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=f"{linked.url}/v1", timeout=PATIENCE, limits=limits) as http:
            return await asyncio.gather(*(ask(http) for _ in range(200)))

    assert asyncio.run(all_of_them()) == [20] * 200


def test_callers_who_leave_before_the_reply_are_noticed(linked: Service, serving: FakeServing) -> None:
    body = b'{"model": "wait"}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", int(linked.url.rsplit(":", 1)[1]))) as caller:
        caller.sendall(head + body)
        until = time.monotonic() + PATIENCE
        while not serving.seen:
            assert time.monotonic() < until, "the request did not come through"
            time.sleep(0.01)
        assert serving.left == 0
    serving.wait_left(1)


def test_errors_of_serving_are_the_caller_s(linked: Service) -> None:
    with connect(linked.url) as client, pytest.raises(NotFoundError, match="No responses/resp_1"):
        client.responses.retrieve("resp_1")


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9"])
def test_without_serving_it_is_503_with_a_hint(tmp_path: Path, url: str | None) -> None:
    with service_on(tmp_path, url) as running, connect(running.url) as client:
        with pytest.raises(InternalServerError) as down:
            client.responses.create(model="m", input="x")
        assert (down.value.status_code, down.value.code) == (503, "serving_unavailable")
        assert down.value.response.headers.get("retry-after") == ("3" if url else None)
        assert client.models.list().data[0].id == "pinetune-mini"  # the rest goes on


def test_ids_that_cannot_be_are_not_found(linked: Service) -> None:
    with linked.http() as http:
        for path in ("/responses/%00", "/chat/completions/a%0Ab"):
            reply = http.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")

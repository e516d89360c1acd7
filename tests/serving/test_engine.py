"""The engine under stress: full queues, callers who hang up, faults inside a step, shutting down."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from api_server import PATIENCE
from openai import OpenAI

from pinetune.serving.app import FolderDirectory, create
from pinetune.serving.directory import Kept
from pinetune.serving.http import pinged
from pinetune.serving.memory import ProcessMemory

HI: Any = [{"role": "user", "content": "hi"}]
LONG: dict[str, Any] = {"model": "pinetune-mini", "messages": HI, "max_tokens": 900, "logit_bias": {"2": -100}}  # 2 ends its turn


def on_engine(service: Any, work: Any) -> Any:
    result: Future[Any] = Future()
    service.engine.tell(lambda: result.set_result(work(service.engine)))
    return result.result(timeout=PATIENCE)


def live_rows(service: Any) -> int:
    return int(on_engine(service, lambda engine: sum(len(ready.batch.rows) for ready, _ in engine._live.values())))


def settle(service: Any, rows: int) -> None:
    """Wait until that many rows are live."""
    while live_rows(service) != rows:
        time.sleep(0.01)


def test_a_stream_that_is_closed_leaves_the_batch(new_server: Any) -> None:
    with new_server(FolderDirectory()) as (client, service):
        stream = client.chat.completions.create(**LONG, stream=True)
        for _ in zip(range(3), stream, strict=False):
            pass
        assert live_rows(service) == 1
        stream.close()
        settle(service, 0)
        assert client.chat.completions.create(**{**LONG, "max_tokens": 3}).usage.completion_tokens == 3


def test_a_caller_who_hangs_up_leaves_the_batch(new_server: Any) -> None:
    with new_server(FolderDirectory()) as (client, service):
        client.chat.completions.create(**{**LONG, "max_tokens": 1})  # loads the model
        with httpx.Client(timeout=httpx.Timeout(PATIENCE, read=0.3)) as raw, pytest.raises(httpx.ReadTimeout):
            raw.post(f"{client.base_url}chat/completions", json={**LONG, "n": 32})
        settle(service, 0)


def test_a_full_queue_is_429_and_empties_again(new_server: Any) -> None:
    with new_server(FolderDirectory(), max_waiting=2) as (client, service):
        gate = threading.Event()
        client.chat.completions.create(**{**LONG, "max_tokens": 1})
        service.engine.tell(gate.wait)  # the engine's thread stands still: all that comes now waits
        with ThreadPoolExecutor(2) as threads:
            waiting = [threads.submit(client.chat.completions.create, **{**LONG, "max_tokens": 2}) for _ in range(2)]
            while service.engine._count < 2:
                time.sleep(0.01)
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**LONG)
            assert caught.value.code == "queue_full" and caught.value.response.headers["retry-after"] == "2"
            gate.set()
            assert [future.result().usage.completion_tokens for future in waiting] == [2, 2]
        assert client.chat.completions.create(**{**LONG, "max_tokens": 2}).choices


def test_a_fault_in_a_step_fails_its_requests_and_nothing_else(new_server: Any) -> None:
    with new_server(FolderDirectory()) as (client, service):
        client.chat.completions.create(**{**LONG, "max_tokens": 1})

        def break_once(engine: Any) -> None:
            [ready] = list(engine.pool.models())
            whole = ready.batch.decoder.weights
            ready.batch.decoder.weights = None

            def mend() -> None:
                ready.batch.decoder.weights = whole

            engine.mend = mend

        on_engine(service, break_once)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**LONG)
        assert caught.value.code == "model_error"
        on_engine(service, lambda engine: engine.mend())
        assert client.chat.completions.create(**{**LONG, "max_tokens": 2}).usage.completion_tokens == 2


def test_closing_ends_what_is_under_way_with_503(new_server: Any) -> None:
    with new_server(FolderDirectory()) as (client, service), ThreadPoolExecutor(1) as threads:
        client.chat.completions.create(**{**LONG, "max_tokens": 1})
        open_request = threads.submit(client.chat.completions.create, **{**LONG, "n": 16})
        settle(service, 16)
        service.close()
        with pytest.raises(openai.InternalServerError) as caught:
            open_request.result()
        assert caught.value.status_code == 503 and caught.value.code == "server_shutdown"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"[" * 100_000, b'{"model": "pinetune-mini", "messages": "hi"}', b"\xff\xfe"])
def test_bad_bodies_are_400(client: OpenAI, body: bytes) -> None:
    for path in ("chat/completions", "responses", "embeddings"):
        reply = httpx.post(f"{client.base_url}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE)
        assert reply.status_code == 400
        assert sorted(reply.json()["error"]) == ["code", "message", "param", "type"]


def test_stored_completions(client: OpenAI) -> None:
    said: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    made = [
        client.chat.completions.create(model="test/tiny:v1", messages=said, max_tokens=3, store=True, metadata={"run": str(i)})
        for i in range(3)
    ]
    assert [one.id for one in client.chat.completions.list(model="test/tiny:v1")] == [one.id for one in made]
    assert [one.id for one in client.chat.completions.list(metadata={"run": "1"})] == [made[1].id]
    assert client.chat.completions.list(limit=2, order="desc").data[0].id == made[2].id
    assert client.chat.completions.retrieve(made[0].id).choices == made[0].choices
    assert client.chat.completions.update(made[0].id, metadata={"run": "7"}).metadata == {"run": "7"}
    messages = client.chat.completions.messages.list(made[0].id)
    assert [(message.role, message.content) for message in messages.data] == [("system", "Be brief."), ("user", "hi")]
    assert client.chat.completions.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made[0].id)
    unstored = client.chat.completions.create(model="test/tiny:v1", messages=said, max_tokens=3)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(unstored.id)


def test_memory_forgets_the_oldest_and_keeps_projects_apart() -> None:
    memory = ProcessMemory(most=2)
    for i in range(3):
        memory.save(Kept(f"r{i}", "response", i, "m", {}, []), "one")
    assert [kept.id for kept in memory.list("response", "one").items] == ["r1", "r2"]
    assert memory.get("response", "r1", "two") is None and not memory.delete("response", "r1", "two")
    assert memory.list("response", "one", after="r1").items[0].id == "r2"


def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    async def collect() -> list[str]:
        seen: list[str] = []
        twice = asyncio.Event()

        async def slow() -> AsyncGenerator[str]:
            yield "a"
            await twice.wait()
            yield "b"

        async for text in pinged(slow(), seconds=0.05):
            seen.append(text)
            if seen.count(": waiting\n\n") == 2:
                twice.set()
        return seen

    seen = asyncio.run(collect())
    assert seen[0] == "a" and seen[-1] == "b" and seen.count(": waiting\n\n") == len(seen) - 2


def test_the_openapi_document_names_every_route_and_body() -> None:
    paths = create(FolderDirectory()).openapi()["paths"]
    assert sorted(paths) == [
        "/v1/chat/completions",
        "/v1/chat/completions/{completion_id}",
        "/v1/chat/completions/{completion_id}/messages",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel",
        "/v1/responses/{response_id}/input_items",
    ]
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"):
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "model" in schema["properties"] and "$ref" not in str(schema)

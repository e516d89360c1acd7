"""The service on loopback: how much it answers, idle and while a job trains; many streams at once; memory over many requests.

Run: python benchmarks/service.py [--requests 2000] [--clients 8] [--streams 200] [--memory-requests 10000]. It starts
`pinetune serve` on a home folder of its own, asks it over HTTP, ends it, and prints markdown tables. The clients run in this
process, on the same cores as the server, so requests a second are a lower bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
GRADER = {
    "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
FILE = b"".join(json.dumps({"messages": [{"role": "user", "content": f"Say {i}."}], "answer": str(i)}).encode() + b"\n" for i in range(200))
QUESTION = {"model": "pinetune-mini", "messages": [{"role": "user", "content": "Which gene fits?"}], "stream": True, "max_tokens": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="of each kind, idle and while a job trains")
    parser.add_argument("--clients", type=int, default=8, help="at once, each on a connection of its own")
    parser.add_argument("--streams", type=int, default=200, help="streaming clients at once on the miniature")
    parser.add_argument("--memory-requests", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as (url, pid):
        asyncio.run(measure(url, pid, arguments))


async def measure(url: str, pid: int, arguments: argparse.Namespace) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as http:
        file = (await upload(http)).json()["id"]
        finished = (await create_job(http, file, steps=1)).json()["id"]
        await ended(http, finished)
        kinds: dict[str, Ask] = {
            "job retrieve": lambda h: h.get(f"/fine_tuning/jobs/{finished}"),
            "events list (20)": lambda h: h.get(f"/fine_tuning/jobs/{finished}/events"),
            f"file upload ({len(FILE) >> 10} KiB)": upload,
        }
        print(f"{arguments.requests} requests of each kind by {arguments.clients} clients at once, one connection each.\n")
        print("| request | idle, a second | p50 ms | p99 ms | a job trains, a second | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|")
        idle = {name: await load(http, ask, arguments.requests, arguments.clients) for name, ask in kinds.items()}
        training = (await create_job(http, file, steps=100_000)).json()["id"]
        await running(http, training)
        for name, ask in kinds.items():
            busy = await load(http, ask, arguments.requests, arguments.clients)
            print(f"| {name} | {shown(idle[name])} | {shown(busy)} |", flush=True)
        assert (await http.get(f"/fine_tuning/jobs/{training}")).json()["status"] == "running", "the job ended while it was measured"
        await http.post(f"/fine_tuning/jobs/{training}/cancel")
        print("\n" + await streams(http, arguments.streams))
        print("\n" + await memory(http, pid, kinds["job retrieve"], arguments))


async def load(http: httpx.AsyncClient, ask: Ask, requests: int, clients: int) -> tuple[float, list[float]]:
    """(requests a second, seconds of each). Raises for an answer that is no 200."""
    seconds: list[float] = []
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            began = time.perf_counter()
            (await ask(http)).raise_for_status()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return requests / (time.perf_counter() - began), seconds


def shown(measured: tuple[float, list[float]]) -> str:
    rate, seconds = measured
    ordered = sorted(seconds)
    return f"{rate:,.0f} | {1000 * statistics.median(ordered):.1f} | {1000 * ordered[int(0.99 * (len(ordered) - 1))]:.1f}"


async def streams(http: httpx.AsyncClient, count: int) -> str:
    """All begin at once; a dropped one is one that does not come to its `[DONE]` with a finish reason."""
    await one_stream(http)  # the model is opened by the first request

    began = time.perf_counter()
    found = await asyncio.gather(*(one_stream(http) for _ in range(count)), return_exceptions=True)
    took = time.perf_counter() - began
    whole = [stream for stream in found if not isinstance(stream, BaseException)]
    first = sorted(seconds for seconds, _ in whole)
    faults = {type(stream).__name__ for stream in found if isinstance(stream, BaseException)}
    dropped = f"{count - len(whole)} dropped{f' ({sorted(faults)})' if faults else ''}"
    tokens = sum(number for _, number in whole)
    return (
        f"{count} streams at once on pinetune-mini: {dropped}; first token after {statistics.median(first):.2f} s (median), "
        f"{first[-1]:.2f} s (last); {tokens:,} tokens in {took:.1f} s, {tokens / took:,.0f} a second."
    )


async def one_stream(http: httpx.AsyncClient) -> tuple[float, int]:
    """(seconds to the first token, tokens). Raises where the stream does not end as it should."""
    began, first, reason, tokens, done = time.perf_counter(), 0.0, None, 0, False
    body = {**QUESTION, "stream_options": {"include_usage": True}}
    async with http.stream("POST", "/chat/completions", json=body) as reply:
        if reply.status_code != 200:
            raise ConnectionError(f"{reply.status_code}: {(await reply.aread())[:200]!r}")
        async for line in reply.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            event = json.loads(line[6:])
            first = first or time.perf_counter() - began
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
            reason = next((choice["finish_reason"] for choice in event["choices"] if choice["finish_reason"]), reason)
    if not done or reason is None:
        raise ConnectionError("the stream broke off")
    return first, tokens


async def memory(http: httpx.AsyncClient, pid: int, ask: Ask, arguments: argparse.Namespace) -> str:
    """The API process's resident memory over many requests, after a tenth of them to warm up."""
    await load(http, ask, max(1, arguments.memory_requests // 10), arguments.clients)
    before = resident(pid)
    await load(http, ask, arguments.memory_requests, arguments.clients)
    after = resident(pid)
    return f"Memory of the API process over {arguments.memory_requests:,} requests: {before:.1f} MiB before, {after:.1f} MiB after."


def resident(pid: int) -> float:
    """MiB. Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no process {pid}")


async def upload(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", FILE)})


async def create_job(http: httpx.AsyncClient, file: str, steps: int) -> httpx.Response:
    own = {"steps": steps, "group_size": 4, "max_tokens": 32, "threads": 1, "early_stopping": False}
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"batch_size": 4}}}
    body = {"model": "pinetune-mini", "training_file": file, "method": method, "seed": 1, "pinetune": own}
    return (await http.post("/fine_tuning/jobs", json=body)).raise_for_status()


async def ended(http: httpx.AsyncClient, id: str) -> None:
    while (job := (await http.get(f"/fine_tuning/jobs/{id}")).json())["status"] not in ("succeeded", "failed"):
        await asyncio.sleep(0.2)
    assert job["status"] == "succeeded", job["error"]


async def running(http: httpx.AsyncClient, id: str) -> None:
    """Until its first step is done."""
    while (job := (await http.get(f"/fine_tuning/jobs/{id}")).json())["pinetune"]["step"] < 1:
        assert job["status"] not in ("failed", "cancelled"), job["error"]
        await asyncio.sleep(0.2)


@contextmanager
def serving(home: Path) -> Iterator[tuple[str, int]]:
    """(base URL, process id of the API) of a server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pinetune", "serve", "--home", str(home), "--port", str(port)]
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/healthz", process, home / "serve.log")
        yield f"http://127.0.0.1:{port}/v1", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_it_answers(url: str, process: subprocess.Popen[Any], log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit(f"the server did not start:\n{log.read_text()[-2000:]}")
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    sys.exit("the server does not answer")


if __name__ == "__main__":
    main()

"""A real HTTP server that scores answers, for tests of endpoint graders.

with running() as server:
    server.replies = [answer(503), score(0.5)]  # the first request gets the first reply, ...; the last one stands for all further ones
    ... server.url ... server.seen
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's replies; keeps what came in."""

    protocol_version = "HTTP/1.1"
    server: Server
    number = 0  # of this request at the server, from 1
    body: Any = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((dict(self.headers), body, time.monotonic()))
            self.number, self.body = len(self.server.seen), body
            reply = self.server.replies[min(len(self.server.seen), len(self.server.replies)) - 1]
        reply(self)

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the usual 5 drops connections when many threads grade at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.replies: list[Reply] = [score(1)]
        self.seen: list[tuple[dict[str, str], Any, float]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/score"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of these tests."""


def score(value: Any) -> Reply:
    return lambda handler: handler.say(200, json.dumps({"score": value}).encode())


def answer(status: int, body: bytes = b"", **headers: str) -> Reply:
    return lambda handler: handler.say(status, body, **headers)


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A real HTTP server that speaks OpenAI's chat completions and embeddings, with the faults a test asks for.

    with JudgeServer(lambda number, body: says('{"steps": [], "result": 1}')) as server:
        ...; assert server.count == 1

`number` counts the requests from 1; what the function returns is sent.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Sent:
    """An HTTP answer. `hang`: none, until the server is closed; `drip`: a blank now and then, which is not the end."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    drip: bool = False


Answer = Callable[[int, dict[str, Any]], Sent]


def says(text: str | None, *, tokens: tuple[int, int] | None = (10, 5), finish: str = "stop", refusal: str | None = None) -> Sent:
    """A chat completion; `tokens` = (prompt, completion), None = the server does not count."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = None if tokens is None else {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Sent({"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})


def verdict(result: Any) -> str:
    return json.dumps({"steps": [{"description": "looked", "conclusion": "done"}], "result": result})


def fails(status: int, message: str = "no", **headers: str) -> Sent:
    return Sent(
        {"error": {"message": message, "type": "error", "code": None}}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


HANGS = Sent(hang=True)
DRIPS = Sent(drip=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5, the connections of 16 threads at once are dropped and tried again a second later


class JudgeServer:
    """On a free port of 127.0.0.1. `bodies` and `keys` keep what came in, in order."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.bodies.append(body)
                    outer.keys.append(self.headers.get("Authorization", ""))
                    number = len(outer.bodies)
                sent = answer(number, body)
                if sent.hang:
                    outer._closing.wait()
                    self.close_connection = True
                    return
                if sent.drip:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                    with suppress(OSError):  # the client went away
                        while not outer._closing.wait(0.01):
                            self.wfile.write(b" ")
                    self.close_connection = True
                    return
                raw = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body).encode()
                self.send_response(sent.status)
                for name, value in {"Content-Type": "application/json", **sent.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def count(self) -> int:
        return len(self.bodies)

    def __enter__(self) -> JudgeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

"""`endpoint` graders, against a real HTTP server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from score_server import Handler, Reply, Server, answer, running, score

from pinetune.errors import GraderError
from pinetune.graders.build import build_grader, parse_definition
from pinetune.graders.endpoint import MAX_BYTES, EndpointGrader, Pace
from pinetune.graders.options import BuildOptions
from pinetune.records import Completion, Grade, Row
from pinetune.wire.graders import Endpoint

SECRET = "Bearer sk-very-secret"


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def grade(server: Server, text: str = "TSC2", item: dict[str, Any] | None = None, seconds: float = 20.0, **definition: Any) -> Grade:
    shape = Endpoint(**{"type": "endpoint", "url": server.url, **definition})
    grader = EndpointGrader(shape, BuildOptions(endpoint_seconds=seconds), backoff_seconds=0.001)
    try:
        return grader.grade(Completion((), (), (), "stop", text), Row(0, (), item or {}))
    finally:
        grader.close()


def test_it_sends_sample_item_and_trace_id_and_takes_the_score(server: Server) -> None:
    server.replies = [score(0.25)]
    verdict = grade(server, "a\ud800ü", {"answer": "TSC2", "messages": []}, headers={"Authorization": SECRET})
    assert (verdict.status, verdict.value) == ("ok", 0.25)
    headers, body, _ = server.seen[0]
    assert (headers["Authorization"], headers["Content-Type"]) == (SECRET, "application/json")
    assert sorted(body) == ["item", "sample", "trace_id"]
    assert body["item"] == {"answer": "TSC2", "messages": []}
    assert sorted(body["sample"]) == ["choices", "output_audio", "output_json", "output_text", "output_tools"]
    assert body["sample"]["output_text"] == "a\ud800ü"
    assert len(body["trace_id"]) == 32


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (-2.5, -2.5), (True, 1.0), (7, 7.0)])
def test_scores_are_not_clamped(server: Server, value: Any, expected: float) -> None:
    server.replies = [score(value)]
    assert grade(server).value == expected


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_it_asks_again_while_the_server_fails(server: Server, status: int) -> None:
    server.replies = [answer(status), answer(status), answer(status), score(0.5)]
    assert grade(server).value == 0.5
    assert len({body["trace_id"] for _, body, _ in server.seen}) == 1


def test_after_three_retries_there_is_no_grade(server: Server) -> None:
    server.replies = [answer(503, b"busy")]
    verdict = grade(server)
    assert (verdict.status, verdict.error_kind, len(server.seen)) == ("error", "endpoint_grader_server_error", 4)
    assert verdict.explanation.startswith(f"{server.url} answered 503: 'busy', 4 times (trace_id {server.seen[0][1]['trace_id']}")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(401, b"no key"), " answered 401: 'no key'"),
        (answer(307, b"", Location="http://127.0.0.1:9/"), " answered 307: ''"),
        (answer(200, b"0.5"), ": the reply has no number \"score\": '0.5'"),
        (answer(200, b'{"score": "1"}'), ': the reply has no number "score": \'{'),
        (answer(200, b'{"score": null}'), ": the reply has no number"),
        (answer(200, b'{"score": NaN}'), ": the score is nan, not a finite number"),
        (answer(200, b'{"score": 1e999}'), ": the score is inf, not a finite number"),
        (answer(200, b'{"score": 1' + b"0" * 400 + b"}"), ": the score is inf, not a finite number"),
        (answer(200, b"<html>"), ": the reply is no JSON: '<html>'"),
        (answer(200, b"[" * 100_000), ": the reply is no JSON: '[[[["),
        (answer(200, b" " * (MAX_BYTES + 1)), ": the reply is larger than 1000000 bytes"),
        (answer(200, b"\xff", Content_Encoding="gzip"), None),
    ],
)
def test_replies_that_are_no_score(server: Server, reply: Reply, said: str | None) -> None:
    server.replies = [reply]
    verdict = grade(server)
    assert (verdict.status, verdict.error_kind) == ("error", "endpoint_grader_server_error")
    assert said is None or verdict.explanation.startswith(server.url + said)
    assert said is None or len(server.seen) == 1  # asking again would bring the same


def test_an_endpoint_that_is_not_there(server: Server) -> None:
    verdict = grade(server, url="http://127.0.0.1:9/score")
    assert (verdict.status, verdict.error_kind) == ("error", "endpoint_grader_server_error")
    assert verdict.explanation.startswith("http://127.0.0.1:9/score: ConnectError: ")


def test_silence_and_a_drip_end_at_the_time_limit(server: Server) -> None:
    done = threading.Event()

    def silent(handler: Handler) -> None:
        done.wait(20)

    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not done.wait(0.02):  # each wait is far below the limit, all together are not
            handler.wfile.write(b" ")
            handler.wfile.flush()

    try:
        for reply in (silent, drip):
            server.replies = [reply]
            verdict = grade(server, seconds=0.15)
            assert (verdict.status, verdict.error_kind) == ("error", "endpoint_grader_server_error")
            assert verdict.explanation.startswith(f"{server.url} gave no answer within 0.15 seconds")
    finally:
        done.set()


@pytest.mark.parametrize(
    ("retry", "asked", "seconds"),
    [
        (0, None, 1.0),
        (2, None, 4.0),
        (0, "7", 7.0),
        (2, "1", 4.0),
        (0, "3600", 60.0),
        (0, "soon", 1.0),
        (0, "-5", 1.0),
        (0, "9" * 400, 1.0),
    ],
)
def test_pauses_double_and_retry_after_is_heeded(retry: int, asked: str | None, seconds: float) -> None:
    grader = EndpointGrader(Endpoint(type="endpoint", url="http://127.0.0.1:9"), BuildOptions())
    assert grader._pause(retry, httpx.Headers({} if asked is None else {"Retry-After": asked})) == seconds


def test_rate_limit_is_requests_a_minute_evenly_spaced() -> None:
    pace = Pace(1200)
    assert [pace.start(now) for now in (10.0, 10.0, 10.01, 11.0, 11.0)] == pytest.approx([10.0, 10.05, 10.1, 11.0, 11.05])
    free = Pace(None)
    assert [free.start(now) for now in (1.0, 1.0, 2.0)] == [1.0, 1.0, 2.0]


def test_rate_limit_holds_for_all_threads_together(server: Server) -> None:
    shape = Endpoint(type="endpoint", url=server.url, rate_limit=60_000)
    grader = EndpointGrader(shape, BuildOptions())
    grader._pace = pace = CountedPace(60_000)
    threads = [threading.Thread(target=grader.grade, args=(Completion((), (), (), "stop", "x"), Row(0, (), {}))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grader.close()
    assert len(server.seen) == len(pace.starts) == 5
    assert all(later - start >= 0.001 - 1e-9 for start, later in pairwise(pace.starts))


class CountedPace(Pace):
    """Keeps the places it gave."""

    def __init__(self, per_minute: int) -> None:
        super().__init__(per_minute)
        self.starts: list[float] = []

    def start(self, now: float) -> float:
        self.starts.append(super().start(now))
        return self.starts[-1]


def test_a_payload_over_one_megabyte_is_not_sent(server: Server) -> None:
    verdict = grade(server, "x" * MAX_BYTES)
    assert (verdict.status, verdict.error_kind) == ("error", "endpoint_grader_internal_error")
    assert "bytes, more than the 1000000 that are sent" in verdict.explanation
    verdict = grade(server, item={"x": float("nan")})
    assert (verdict.status, verdict.error_kind) == ("error", "endpoint_grader_internal_error")
    assert server.seen == []


def test_keys_are_never_shown(server: Server) -> None:
    def echo(handler: Handler) -> None:
        handler.say(400, f"{' ' * 195}{handler.headers['X-Key']}{handler.headers['Authorization']}".encode())

    server.replies = [echo]
    address = server.url.removeprefix("http://")
    verdict = grade(server, url=f"http://user:password@{address}?key=abc", headers={"X-Key": 'it\'s "key"', "Authorization": SECRET})
    assert verdict.explanation.startswith(f"{server.url} answered 400: '{' ' * 195}***")
    for secret in ("it's", "very-secret", "password", "abc"):
        assert secret not in verdict.explanation
    assert SECRET not in repr(parse_definition({"type": "endpoint", "url": server.url, "headers": {"Authorization": SECRET}}))


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"url": "ftp://x/y"}, "grader.url: must be a whole URL"),
        ({"url": "/score"}, "grader.url: must be a whole URL"),
        ({"url": "http://x:y"}, "grader.url: is no URL: Invalid port"),
        (
            {"url": "http://x", "headers": {"a b": SECRET}},
            "grader.headers: the name has characters that HTTP does not allow, in header 'a b'",
        ),
        ({"url": "http://x", "headers": {"a": SECRET + "\r\n"}}, "grader.headers: the value has characters"),
        ({"url": "http://x", "headers": {"a": [SECRET]}}, "grader.headers.a: should be a valid string"),
        ({"url": "http://x", "headers": SECRET}, "grader.headers: should be a valid dictionary"),
        ({"url": "http://x", "rate_limit": 0}, "grader.rate_limit: should be greater than or equal to 1"),
        ({}, "grader.url: is missing"),
    ],
)
def test_bad_definitions(definition: dict[str, Any], said: str) -> None:
    with pytest.raises(GraderError) as error:
        build_grader({"type": "endpoint", **definition})
    assert str(error.value).startswith(said)
    assert SECRET not in str(error.value)

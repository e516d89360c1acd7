"""`endpoint`: a web service of the user's own grades. POST {"sample", "item", "trace_id"} to its url, {"score": number} back.

An answer that gets no score in time, or after the retries, could not be graded; it is never scored 0.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
import uuid
from typing import Any

import httpx

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.options import BuildOptions
from pinetune.graders.template import sample_of
from pinetune.records import Completion, Grade, Row
from pinetune.wire.graders import Endpoint

MAX_BYTES = 1_000_000  # of a request, and of a reply
RETRIES = 3
RETRIED = {429, 500, 502, 503, 504}
BACKOFF_SECONDS = 1.0  # before the first retry; doubled for each further one
LONGEST_BACKOFF_SECONDS = 60.0  # whatever Retry-After asks
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
SERVER_ERROR = "endpoint_grader_server_error"
INTERNAL_ERROR = "endpoint_grader_internal_error"


class Pace:
    """Evenly spaced starts, `per_minute` of them; None = at once."""

    def __init__(self, per_minute: int | None) -> None:
        self._gap_seconds = 60.0 / per_minute if per_minute else 0.0
        self._next_start = 0.0

    def start(self, now: float) -> float:
        """When the next one may start, in seconds on the clock of `now`; that place is then taken."""
        start = max(now, self._next_start)
        self._next_start = start + self._gap_seconds
        return start


class EndpointGrader:
    """Asks the endpoint; thread-safe. `rate_limit` is the most requests a minute, evenly spaced, retries included.

    The network runs on one event loop in a thread of its own: only there does a time limit hold whatever the server
    does (one byte a minute included). Header values are never shown, not even where the server sends them back.
    """

    def __init__(self, definition: Endpoint, options: BuildOptions, backoff_seconds: float = BACKOFF_SECONDS) -> None:
        self.name = definition.name or options.default_name
        self._url = _checked_url(definition.url, f"{options.path}.url")
        self._headers = _checked_headers(definition.headers or {}, f"{options.path}.headers")
        self._pace = Pace(definition.rate_limit)
        self._seconds = options.endpoint_seconds
        self._backoff_seconds = backoff_seconds
        self._json_answers = options.json_answers
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None

    def grade(self, completion: Completion, row: Row) -> Grade:
        start = time.perf_counter()
        trace_id = uuid.uuid4().hex
        try:
            body = _body(sample_of(completion, json_answers=self._json_answers), dict(row.item), trace_id)
            value = asyncio.run_coroutine_threadsafe(self._score(body), self._running()).result()
        except GradingFailed as failure:
            said = f"{failure} (trace_id {trace_id})"
            return Grade("error", explanation=said, error_kind=failure.kind, seconds=time.perf_counter() - start)
        return Grade("ok", value, seconds=time.perf_counter() - start)

    def close(self) -> None:
        with self._lock:
            if self._loop is None or self._thread is None:
                return
            if self._client is not None:
                asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = self._client = None

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint-grader", daemon=True)
                self._thread.start()
            return self._loop

    async def _score(self, body: bytes) -> float:
        """Asks up to 1 + RETRIES times; raises GradingFailed with what the last try met."""
        failure = GradingFailed(SERVER_ERROR, "")
        for retry in range(RETRIES + 1):
            now = time.monotonic()
            await asyncio.sleep(self._pace.start(now) - now)
            try:
                async with asyncio.timeout(self._seconds):
                    status, headers, text = await self._post(body)
            except TimeoutError:  # a server that is that slow will not be quicker when asked again
                raise GradingFailed(SERVER_ERROR, f"{self._shown_url()} gave no answer within {self._seconds:g} seconds") from None
            except httpx.RequestError as error:
                status, headers = 0, httpx.Headers()
                failure = GradingFailed(SERVER_ERROR, self._masked(f"{self._shown_url()}: {type(error).__name__}: {error}"))
            else:
                if status == 200:
                    return self._score_in(text)
                failure = GradingFailed(SERVER_ERROR, f"{self._shown_url()} answered {status}: {self._excerpt(text)}")
            if status and status not in RETRIED:
                raise failure
            if retry < RETRIES:
                await asyncio.sleep(self._pause(retry, headers))
        raise GradingFailed(SERVER_ERROR, f"{failure}, {RETRIES + 1} times")

    async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=None, headers=self._headers)  # the limit is on the whole exchange
        async with self._client.stream("POST", self._url, content=body, headers={"Content-Type": "application/json"}) as reply:
            text = b""
            async for piece in reply.aiter_bytes():
                text += piece
                if len(text) > MAX_BYTES:
                    raise GradingFailed(SERVER_ERROR, f"{self._shown_url()}: the reply is larger than {MAX_BYTES} bytes")
            return reply.status_code, reply.headers, text

    def _score_in(self, text: bytes) -> float:
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError):
            raise GradingFailed(SERVER_ERROR, f"{self._shown_url()}: the reply is no JSON: {self._excerpt(text)}") from None
        score = reply.get("score") if isinstance(reply, dict) else None
        if not isinstance(score, (int, float)):
            raise GradingFailed(SERVER_ERROR, f'{self._shown_url()}: the reply has no number "score": {self._excerpt(text)}')
        try:
            value = float(score)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise GradingFailed(SERVER_ERROR, f"{self._shown_url()}: the score is {value}, not a finite number")
        return value

    def _pause(self, retry: int, headers: httpx.Headers) -> float:
        asked = headers.get("retry-after", "")
        seconds = float(asked) if asked.isdecimal() and len(asked) < 6 else 0.0
        return min(LONGEST_BACKOFF_SECONDS, max(seconds, self._backoff_seconds * 2.0**retry))

    def _shown_url(self) -> str:
        """Without user, password and query, where keys are kept."""
        return str(self._url.copy_with(userinfo=b"", query=None, fragment=None))

    def _excerpt(self, text: bytes) -> str:
        return repr(self._masked(text.decode("utf-8", "replace"))[:200])

    def _masked(self, text: str) -> str:
        for value in self._headers.values():
            text = text.replace(value, "***") if len(value) > 3 else text
        return text


def build(definition: Endpoint, options: BuildOptions) -> EndpointGrader:
    return EndpointGrader(definition, options)


def _checked_url(text: str, path: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise GraderError(f"{path}: is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise GraderError(f"{path}: must be a whole URL such as https://grader.example/score")
    return url


def _checked_headers(headers: dict[str, str], path: str) -> dict[str, str]:
    """Names the fault, never the value: it may be a key."""
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            what = "value has characters" if HEADER_NAME.fullmatch(name) else "name has characters"
            raise GraderError(f"{path}: the {what} that HTTP does not allow, in header {name!r}")
    return headers


def _body(sample: dict[str, Any], item: dict[str, Any], trace_id: str) -> bytes:
    try:
        text = json.dumps({"sample": sample, "item": item, "trace_id": trace_id}, ensure_ascii=False, allow_nan=False)
        body = text.encode("utf-8", "backslashreplace")  # a lone surrogate comes out as the JSON escape it needs
    except (TypeError, ValueError, RecursionError) as error:
        raise GradingFailed(INTERNAL_ERROR, f"the sample and the item cannot be written as JSON: {error}") from None
    if len(body) > MAX_BYTES:
        raise GradingFailed(INTERNAL_ERROR, f"the sample and the item are {len(body)} bytes, more than the {MAX_BYTES} that are sent")
    return body

"""The endpoint things are brought from, read through the `openai` client: paced, patient, and never written to.

Replies are taken as plain JSON, not as the client's types: those lag behind what the hosted API really sends.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from pinetune.errors import PinetuneError, UserError

T = TypeVar("T")
Json = dict[str, Any]
ATTEMPTS = 8
LONGEST_WAIT = 60.0  # of our own choice between two attempts; what the endpoint asks for is waited in full
AGAIN = frozenset({408, 409, 425, 429})  # and 5xx
NEVER_AGAIN = "insufficient_quota"
PAGE = 100
CHUNK = 1 << 20


class Refused(PinetuneError):
    """The endpoint will not give this one thing; the rest goes on."""

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class Endpoint:
    """`rate` is requests a second, 0 = as fast as it answers. `waiting(seconds, why)` is called before a longer wait."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        rate: float = 5.0,
        waiting: Callable[[float, str], None] = lambda seconds, why: None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = _checked_url(base_url)
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=120)
        self._gap = 1 / rate if rate else 0.0
        self._next = 0.0
        self._waiting, self._sleep, self._now = waiting, sleep, now

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Json:
        """The JSON object at `path`. Raises Refused for what is not there or not given, UserError when nothing works."""
        found = self._patiently(lambda: self._client.get(path, cast_to=object, options={"params": query}))
        if not isinstance(found, dict):
            raise Refused(f"{self.name}{path} does not answer with a JSON object")
        return found

    def pages(self, path: str, *, limit: int = PAGE, after: str | None = None, **query: Any) -> Iterator[list[Json]]:
        """A list, page by page, from behind `after`. Ends also where an endpoint ignores the cursor and repeats itself."""
        seen: set[str] = set()
        while True:
            page = self.get(path, limit=limit, **({"after": after} if after else {}), **query)
            found = [entry for entry in page.get("data") or [] if isinstance(entry, dict)]
            fresh = [entry for entry in found if entry.get("id") not in seen]
            if fresh:
                yield fresh
            seen.update(str(entry.get("id")) for entry in fresh)
            if not fresh or not page.get("has_more"):
                return
            after = str(found[-1].get("id"))

    def list(self, path: str, **query: Any) -> list[Json]:
        """A whole list."""
        return [entry for page in self.pages(path, **query) for entry in page]

    def download(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        """What `take` makes of a file's content; called again from the start when the connection breaks."""

        def once() -> T:
            with self._client.files.with_streaming_response.content(file_id) as reply:
                return take(_pieces(reply.iter_bytes(CHUNK)))

        return self._patiently(once)

    def _patiently(self, call: Callable[[], T]) -> T:
        wait, fault = 1.0, ""
        for _ in range(ATTEMPTS):
            self._keep_pace()
            told: float | None = None
            try:
                return call()
            except openai.AuthenticationError as error:
                raise UserError(f"{self.name} does not accept the API key ({_said(error)}); set --api-key-env to the right one") from None
            except openai.APIStatusError as error:
                if not (error.status_code in AGAIN or error.status_code >= 500) or error.code == NEVER_AGAIN:
                    raise Refused(f"{error.status_code}: {_said(error)}", error.status_code) from None
                fault, told = f"{error.status_code}: {_said(error)}", retry_after(error.response.headers)
            except (openai.APIConnectionError, _Broken) as error:
                fault = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
            pause = wait * random.uniform(0.5, 1.0) if told is None else told
            self._waiting(pause, fault)
            self._sleep(pause)
            wait = min(LONGEST_WAIT, 2 * wait)
        raise UserError(f"{self.name} did not answer {ATTEMPTS} times ({fault}); what came so far is kept, and the same command goes on")

    def _keep_pace(self) -> None:
        pause = self._next - self._now()
        if pause > 0:
            self._sleep(pause)
        self._next = max(self._next, self._now()) + self._gap


class _Broken(Exception):
    """The connection broke while a content came."""


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:  # whatever HTTP library the client brings: all that can happen here is that the bytes end
        raise _Broken from error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the endpoint asks to wait: from `retry-after-ms`, or `retry-after` as a number or a date; None = not told.

    >>> retry_after({"retry-after": "90"}), retry_after({"retry-after-ms": "250"})
    (90.0, 0.25)
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit)
        except ValueError:
            continue
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _checked_url(base_url: str) -> str:
    """The address without what may be secret in it, for messages and records."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--base-url: {base_url!r} is no http address; give one like https://api.openai.com/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def _said(error: openai.APIStatusError) -> str:
    """The endpoint's own message, short and on one line."""
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.message).split())[:300]

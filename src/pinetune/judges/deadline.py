"""An HTTP client that gives up on a whole answer, not only on a silence: gateways send blanks to keep a dead question alive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
from openai import DefaultHttpxClient


class DeadlineClient(DefaultHttpxClient):
    """As openai's own client, but the body must be complete `seconds` after the request began; else httpx2.ReadTimeout."""

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=seconds)
        self._seconds = seconds

    def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        until = time.monotonic() + self._seconds
        response = super().send(request, stream=True, **kwargs)
        response.stream = _Until(response.stream, until, request)
        if not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response


class _Until(httpx2.SyncByteStream):
    def __init__(self, inner: Any, until: float, request: httpx2.Request) -> None:
        self._inner, self._until, self._request = inner, until, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            yield chunk
            if time.monotonic() > self._until:
                raise httpx2.ReadTimeout("the answer did not end in time", request=self._request)

    def close(self) -> None:
        self._inner.close()

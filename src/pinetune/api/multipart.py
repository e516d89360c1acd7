"""Multipart bodies as they stream in: parts in the order they come, no file held in memory or in a temporary place."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.from_thread
from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from pinetune.store.blobs import CHUNK
from pinetune.wire.errors import ApiProblem

MAX_TEXT = 64 << 10  # of a part that is not a file
MAX_PARTS = 100
STALLED_SECONDS = 60.0  # a sender this silent gives its place to others
NESTED = re.compile(r"(\w+)\[(\w+)\]")


def pull(request: Request) -> Iterator[bytes]:
    """The body's pieces, each about a mebibyte, for a thread of anyio's: the loop reads while the thread writes."""
    stream = aiter(request.stream())

    async def some() -> bytes:
        gathered, size = [], 0
        while size < CHUNK:
            try:
                with anyio.fail_after(STALLED_SECONDS):
                    piece = await anext(stream, b"")
            except TimeoutError:
                text = f"No byte of the body came for {STALLED_SECONDS:g} seconds; send it again"
                raise ApiProblem(408, text, code="upload_stalled") from None
            if not piece:
                break
            gathered.append(piece)
            size += len(piece)
        return b"".join(gathered)

    while piece := anyio.from_thread.run(some):
        yield piece


@dataclass(slots=True)
class Part:
    """`filename` None = a text field. `chunks` must be read, or is skipped, before the next part comes."""

    name: str
    filename: str | None
    chunks: Iterator[bytes]

    def text(self) -> str:
        """Raises ApiProblem 400 for a text that is too long or not UTF-8."""
        found = b""
        for chunk in self.chunks:
            found += chunk
            if len(found) > MAX_TEXT:
                raise ApiProblem(400, f"The field '{self.name}' is too long", code="invalid_value", param=self.name)
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise ApiProblem(400, f"The field '{self.name}' is not UTF-8", code="invalid_value", param=self.name) from None


def parts(content_type: str, body: Iterator[bytes]) -> Iterator[Part]:
    """Raises ApiProblem 400 for what is no multipart body, or ends within a part."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiProblem(400, "This request needs a multipart/form-data body with a boundary", code="invalid_content_type")
    reader = _Reader(boundary, body)
    for _ in range(MAX_PARTS):
        part = reader.next_part()
        if part is None:
            return
        yield part
        for _chunk in part.chunks:
            pass
    raise ApiProblem(400, f"The body has more than {MAX_PARTS} parts", code="invalid_value")


def nested(fields: dict[str, str]) -> dict[str, Any]:
    """Bracketed names as objects.

    >>> nested({"purpose": "batch", "expires_after[seconds]": "3600"})
    {'purpose': 'batch', 'expires_after': {'seconds': '3600'}}
    """
    found: dict[str, Any] = {}
    for name, value in fields.items():
        match = NESTED.fullmatch(name)
        if match:
            inner = found.setdefault(match[1], {})
            if isinstance(inner, dict):
                inner[match[2]] = value
        else:
            found[name] = value
    return found


class _Reader:
    """python-multipart's callbacks turned into something one can ask for the next piece."""

    def __init__(self, boundary: bytes, body: Iterator[bytes]) -> None:
        self._body = body
        self._events: deque[tuple[str, Any]] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_header_end": self._header_end,
                "on_headers_finished": lambda: self._events.append(("part", dict(self._headers))),
                "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                "on_part_end": lambda: self._events.append(("end", None)),
                "on_end": lambda: self._events.append(("over", None)),
            },
        )

    def next_part(self) -> Part | None:
        kind, headers = self._event()
        if kind == "over":
            for _rest in self._body:  # an epilogue; the connection is used again only when it is read
                pass
            return None
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        filename = options.get(b"filename")
        return Part(_text(options.get(b"name", b"")), None if filename is None else _text(filename), self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        while True:
            kind, data = self._event()
            if kind == "end":
                return
            yield data

    def _event(self) -> tuple[str, Any]:
        while not self._events:
            piece = next(self._body, b"")
            if not piece:
                raise ApiProblem(400, "The multipart body ends too early", code="invalid_body")
            try:
                self._parser.write(piece)
            except MultipartParseError as error:
                raise ApiProblem(400, f"The multipart body cannot be read: {error}", code="invalid_body") from None
        return self._events.popleft()

    def _begin(self) -> None:
        self._headers = {}

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")

"""Strict, streaming JSON Lines: bytes in, objects out, and one complaint with file and line for everything that is wrong.

Strict where a lenient reader would lose something in silence: a repeated key drops a value, NaN is not JSON,
half a surrogate pair cannot be written again, a blank line in the middle hides a lost row.
Nothing but DataError comes out of here, whatever the bytes.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinetune.errors import DataError

MAX_LINE_BYTES = 16 << 20  # a row holds at most a few hundred thousand tokens; more is another kind of file
MAX_UNPACKED_BYTES = 8 << 30  # of a gzip file: a thousandth of that on the disk, and it would be read for hours
MAX_DEPTH = 100  # far above any real row, far below Python's own recursion limit, so later code may recurse freely
MAX_COMPLAINTS = 20
MAX_FIELD_CHARS = 200

FOREIGN_FORMATS = {  # first bytes -> what the file really is
    b"PK\x03\x04": "a zip archive: unpack it, or compress with gzip instead",
    b"PAR1": "a Parquet file: convert it to JSONL first",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it, or compress with gzip instead",
    b"BZh": "compressed with bzip2: unpack it, or compress with gzip instead",
    b"\xfd7zXZ": "compressed with xz: unpack it, or compress with gzip instead",
}


class Complaints:
    """Everything found wrong with one file: the first 20 in words, the rest as a number."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.texts: list[str] = []
        self.total = 0

    def add(self, line: int, field: str, what: str) -> None:
        """Note a fault. `line` counts from 1, 0 = the file as a whole; `what` says what is wrong, then what to do."""
        self.total += 1
        if len(self.texts) < MAX_COMPLAINTS:
            text = ": ".join(part for part in (f"{self.file}:{line}" if line else self.file, field[:MAX_FIELD_CHARS], what) if part)
            # A key or a file name may hold line breaks and terminal codes; a complaint is one plain line.
            self.texts.append("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))

    def raise_if_any(self) -> None:
        if self.total > len(self.texts):
            raise DataError([*self.texts, f"{self.file}: ... and {self.total - len(self.texts)} more"])
        if self.texts:
            raise DataError(self.texts)


def read_objects(path: str | Path, complaints: Complaints, max_rows: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for every good line; every bad one goes to `complaints`, which the caller raises.

    Blank lines at the end are allowed, and so are CRLF line ends and gzip (known by its content, not its name).
    """
    parser = _Parser()
    blank: list[int] = []  # the first of them; there may be billions
    rows = 0
    for line, offset, raw in _read_lines(path, complaints):
        if not raw.strip():
            if len(blank) <= MAX_COMPLAINTS:
                blank.append(line)
            continue
        for number in blank:
            complaints.add(number, "", "blank line; delete it")
        blank.clear()
        rows += 1
        if max_rows is not None and rows > max_rows:
            complaints.add(line, "", f"more than {max_rows:,} rows, the limit for one file; use fewer rows")
            return
        found = _parse_line(raw, line, offset, parser, complaints)
        if found is not None:
            yield line, found
    if not rows and not complaints.total:
        what = "holds nothing but blank lines" if blank else "the file is empty"
        complaints.add(0, "", f"{what}; write one JSON object per line")


def _parse_line(raw: bytes, line: int, offset: int, parser: _Parser, complaints: Complaints) -> dict[str, Any] | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        complaints.add(line, "", f"not UTF-8: byte 0x{byte:02x} at offset {offset + error.start} of the file; save the file as UTF-8")
        return None
    try:
        found, oddities = parser.parse(text)
    except json.JSONDecodeError as error:
        complaints.add(line, "", f"column {error.colno}: not JSON ({error.msg}); {_json_advice(text, line)}")
        return None
    except RecursionError:
        complaints.add(line, "", f"nested more than {MAX_DEPTH} levels deep; flatten it")
        return None
    except ValueError:
        complaints.add(line, "", "a number of thousands of digits; write it as a string")
        return None
    for field, what in oddities:
        complaints.add(line, field, what)
    if oddities:
        return None
    if not isinstance(found, dict):
        complaints.add(line, "", f"{kind(found)}, not an object; write each row as {{...}} on a line of its own")
        return None
    return found


def parse_document(raw: bytes) -> dict[str, Any]:
    """One whole JSON document as strictly as a line of JSONL.

    Raises: ValueError that says in a few words what is wrong.
    """
    complaints = Complaints("")
    found = _parse_line(raw.removeprefix(b"\xef\xbb\xbf"), 0, 0, _Parser(), complaints)
    if found is None:
        raise ValueError(complaints.texts[0].split(";")[0])
    return found


def _json_advice(text: str, line: int) -> str:
    if line == 1 and text.strip() in ("[", "{"):
        return "the file looks like one JSON document over many lines; write one object per line, without a list around them"
    if text.rstrip().endswith("},"):
        return "write one object per line, without commas between the lines"
    return "write one JSON object per line"


def _read_lines(path: str | Path, complaints: Complaints) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number, byte offset, bytes without the line end); memory is bounded by one line."""
    try:
        with _open(Path(path), complaints) as file:
            packed, offset = isinstance(file, gzip.GzipFile), 0
            for line in range(1, 1 << 62):
                raw = file.readline(MAX_LINE_BYTES + 1)
                if not raw:
                    return
                if packed and offset > MAX_UNPACKED_BYTES:
                    complaints.add(line, "", f"unpacked, the file has more than {MAX_UNPACKED_BYTES >> 30} GiB. Reading stops here")
                    return
                if len(raw) > MAX_LINE_BYTES:
                    what = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB; is this JSONL, one row per line?"
                    complaints.add(line, "", f"{what} Reading stops here")
                    return
                skip = 0
                if line == 1 and raw.startswith(b"\xef\xbb\xbf"):
                    complaints.add(1, "", "the file starts with a byte-order mark; save it as UTF-8 without BOM")
                    skip = 3
                yield line, offset + skip, raw[skip:].rstrip(b"\r\n")
                offset += len(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        complaints.add(0, "", f"damaged gzip file ({error}); make it again")
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        complaints.add(0, "", _open_advice(Path(path), error))


def _open(path: Path, complaints: Complaints) -> io.BufferedIOBase:
    file = path.open("rb")
    head = file.peek(8)[:8]
    if head.startswith(b"\x1f\x8b"):
        file.close()
        return gzip.open(path, "rb")
    for magic, what in FOREIGN_FORMATS.items():
        if head.startswith(magic):
            file.close()
            complaints.add(0, "", f"not JSONL but {what}")
            complaints.raise_if_any()
    return file


def _open_advice(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        try:
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
        except OSError:
            near = []
        return "no such file" + (f"; did you mean {path.parent / near[0]}?" if near else "; check the path")
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file; name the JSONL file in it"
    return f"cannot be read ({getattr(error, 'strerror', None) or error}); check the path and your permissions"


class _Repeated(dict[str, Any]):
    """An object in which keys were repeated."""

    keys_twice: tuple[str, ...] = ()


class _NotFinite:
    def __init__(self, text: str) -> None:
        self.text = text


class _Parser:
    """json.loads that also notices what json.loads lets pass. The walk that finds the path is only made when needed."""

    def __init__(self) -> None:
        self.odd = False
        self.decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant, parse_float=self._float)

    def parse(self, text: str) -> tuple[Any, list[tuple[str, str]]]:
        """The value and (path, complaint) pairs.

        Raises: JSONDecodeError, RecursionError (too deep), ValueError (an integer of more digits than Python converts).
        """
        self.odd = False
        value = self.decoder.decode(text)
        if text.count("{") + text.count("[") > MAX_DEPTH:
            _check_depth(value)
        oddities = list(_find_oddities(value)) if self.odd else []
        if "\\u" in text and not oddities:
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                half = f"\\u{ord(error.object[error.start]):04x}"
                oddities.append(("", f"{half} is half of a surrogate pair, not a character; remove it or write the character itself"))
        return value, oddities

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        self.odd = True
        repeated = _Repeated(plain)
        repeated.keys_twice = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return repeated

    def _constant(self, text: str) -> _NotFinite:
        self.odd = True
        return _NotFinite(text)

    def _float(self, text: str) -> float | _NotFinite:
        value = float(text)
        return value if math.isfinite(value) else self._constant(text)


def _find_oddities(value: Any) -> Iterator[tuple[str, str]]:
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, here = stack.pop()
        if isinstance(here, _NotFinite):
            yield path, f"{here.text[:40]} is not a JSON number; use null, a string or a finite number"
        elif isinstance(here, dict):
            for key in getattr(here, "keys_twice", ()):
                yield join_path(path, key), "the key is there twice, and only one value can be kept; remove one"
            stack += [(join_path(path, key), inner) for key, inner in reversed(here.items())]
        elif isinstance(here, list):
            stack += [(f"{path}[{i}]", inner) for i, inner in reversed(list(enumerate(here)))]


def _check_depth(value: Any) -> None:
    stack = [(value, 1)]
    while stack:
        here, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(here, dict | list):
            stack += [(inner, depth + 1) for inner in (here.values() if isinstance(here, dict) else here)]


def join_path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def kind(value: Any) -> str:
    """What a JSON value is, in words for a complaint."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)

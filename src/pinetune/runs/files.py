"""Files that survive being killed: whole-file writes that happen or do not, and JSON lines that are only appended to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pinetune.errors import DataError

PARTIAL = ".partial"  # suffix of a file being written; never read, overwritten by the next write


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a neighbouring file, then put it in the place of `path`: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    write(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda partial: _fill(partial, content))


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    write_bytes(path, encode(value, indent) + b"\n")


def read_json(path: Path) -> Any:
    """Raises DataError when the file is not JSON, FileNotFoundError when there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); it was changed after Pinetune wrote it") from None


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add one JSON line and flush it to the disk. A torn line, left by a kill in the middle of writing, is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = encode(finite(row)) + b"\n"
    with path.open("ab+") as file:
        _cut_torn_line(file)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file, [] where there is none; a torn last line is as if never written."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is empty or torn
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}:{number}: not readable as JSON ({error}); it was changed after Pinetune wrote it") from None
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_bytes(path, b"".join(encode(finite(row)) + b"\n" for row in rows))


def encode(value: Any, indent: int | None = None) -> bytes:
    """JSON as UTF-8 that people can read; half a surrogate pair, which UTF-8 cannot hold, makes it all ASCII escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None: JSON has no word for them, and other readers stop at them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _cut_torn_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)

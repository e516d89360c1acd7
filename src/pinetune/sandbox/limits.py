"""How much a python grader may take, the same as on the hosted product where that is known."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call (and of loading the source, which counts as a call)."""

    wall_seconds: float = 120.0
    memory_bytes: int = 2048 * MEBIBYTE  # address space of each process, and the resident memory of all together
    disk_bytes: int = 1024 * MEBIBYTE  # /tmp, and the largest single file
    processes: int = 64  # processes and threads together; enough for a grader that runs programs
    open_files: int = 256
    request_bytes: int = 16 * MEBIBYTE  # sample and item as JSON
    printed_chars: int = 16_000  # of what the grader prints, the first this many are kept

"""What every confined worker sees of the host, all of it read-only: the system's programs and libraries, the interpreter."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pinetune.sandbox.limits import MEBIBYTE

WORKER_INSIDE = "/pinetune-worker.py"
SYSTEM_FOLDERS = ("/lib", "/lib32", "/lib64", "/bin", "/sbin")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives")  # how some distributions find their shared libraries
SHARED_MEMORY_BYTES = 64 * MEBIBYTE  # /dev/shm


@dataclass(frozen=True, slots=True)
class View:
    """Paths that exist on this host: `folders` (and single files) keep their path, `symlinks` are (target, path)."""

    folders: list[str]
    symlinks: list[tuple[str, str]]


def system_view() -> View:
    links = [folder for folder in SYSTEM_FOLDERS if os.path.islink(folder)]
    folders = ["/usr", *(folder for folder in SYSTEM_FOLDERS if os.path.isdir(folder) and folder not in links)]
    files = [path for path in SYSTEM_FILES if os.path.exists(path)]
    roots = sorted({sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable))})
    homes = [root for root in roots if not Path(root).is_relative_to("/usr")]
    return View(folders + files + homes, [(os.readlink(folder), folder) for folder in links])


def first_user_id() -> int:
    """User ids for workers started by root: far from those of accounts and container ranges, other for each host process."""
    return 2_000_000_000 + (os.getpid() % 100_000) * 1_000

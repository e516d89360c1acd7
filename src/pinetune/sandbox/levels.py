"""The ways to run a stranger's Python, from confined to not at all, and the choice between them.

    bubblewrap   no network, no host files, no host processes, no environment, own /tmp; limits. Linux with bwrap.
    trusted      our own grader sources only: a child process with limits and an empty environment.
    unsafe       the same as `trusted`, for anybody's source, because the operator said so by name.

A host that cannot confine refuses (MissingToolError) rather than falling back on its own.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pinetune.errors import MissingToolError
from pinetune.sandbox import bubblewrap
from pinetune.sandbox.limits import Limits

WORKER = Path(__file__).with_name("worker.py")

# sha256 of grader sources that are part of Pinetune and were read by us: they run without a system package.
BUNDLED_SOURCES: dict[str, str] = {
    "af03d746dc20e07a161b8bafcd0257338eb6219449449f09d913c3a660a8491f": "demo/gene_grader.py",
}

ENVIRONMENT: dict[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # a grader that walks a set gives the same grade every time
    # A thread pool started while the source loads would not survive the fork, and the cores are shared with training.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Level:
    """One way to start the worker. `command(config, limits)` is an argument list; `private`: own process namespace."""

    name: str
    command: Callable[[str, Limits], list[str]]
    private: bool


def _plain(config: str, limits: Limits) -> list[str]:
    return [*interpreter(), str(WORKER), config]


def _bubblewrap(config: str, limits: Limits) -> list[str]:
    return [*bubblewrap.prefix(limits, WORKER, ENVIRONMENT), *interpreter(), bubblewrap.WORKER_INSIDE, config]


def interpreter() -> list[str]:
    """No user site, no script folder on the path, no bytecode written; -I would also ignore PYTHONHASHSEED."""
    return [sys.executable, "-s", "-P", "-B"]


LEVELS: dict[str, Level] = {
    "bubblewrap": Level("bubblewrap", _bubblewrap, private=True),
    "trusted": Level("trusted", _plain, private=False),
    "unsafe": Level("unsafe", _plain, private=False),
}


def is_bundled(source: str) -> bool:
    return hashlib.sha256(source.encode()).hexdigest() in BUNDLED_SOURCES


def choose_level(source: str, *, trusted: bool, unsafe: bool) -> Level:
    """The strongest level for this source on this host; raises MissingToolError where none is allowed."""
    if trusted or is_bundled(source):
        return LEVELS["trusted"]
    if bubblewrap.problem() is None:
        return LEVELS["bubblewrap"]
    if unsafe:
        return LEVELS["unsafe"]
    raise MissingToolError(
        f"a python grader must be confined, and {bubblewrap.problem()}. Or, for a source you trust as you trust yourself, run it "
        'unconfined: --unsafe-python-graders, or "unsafe_python_graders": true in the job\'s "pinetune" section'
    )

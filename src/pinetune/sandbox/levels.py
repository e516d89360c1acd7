"""The ways to run a stranger's Python, from confined to not at all, and the choice between them.

    bubblewrap   no network, no host files, no host processes, no environment, own /tmp; limits. Linux with bwrap.
    namespaces   the same by our own launcher. Linux without bwrap, where new namespaces are allowed.
    trusted      our own grader sources only: a child process with limits and an empty environment.
    unsafe       the same as `trusted`, for anybody's source, because the operator said so by name.

A host that cannot confine refuses (MissingToolError) rather than falling back on its own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pinetune.errors import MissingToolError
from pinetune.sandbox import bubblewrap, namespaces
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.view import WORKER_INSIDE

Config = dict[str, Any]
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
    # Else each call's child would look up again every library function it is the first to use.
    "LD_BIND_NOW": "1",
    # A thread pool started while the source loads would not survive the fork, and the cores are shared with training.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Level:
    """One way to start the worker. `command(config, limits)` is an argument list; `private`: own process namespace.

    `config` is what worker.py reads, as JSON, from its last argument.
    """

    name: str
    command: Callable[[Config, Limits], list[str]]
    private: bool


def _plain(config: Config, limits: Limits) -> list[str]:
    return [*interpreter(), str(WORKER), json.dumps(config)]


def _bubblewrap(config: Config, limits: Limits) -> list[str]:
    return [*bubblewrap.prefix(limits, WORKER, ENVIRONMENT), *interpreter(), WORKER_INSIDE, json.dumps(config)]


def _namespaces(config: Config, limits: Limits) -> list[str]:
    return [*namespaces.prefix(limits, WORKER, config["uid"], interpreter()), *interpreter(), WORKER_INSIDE, json.dumps(config)]


def interpreter() -> list[str]:
    """No user site, no script folder on the path, no bytecode written; -I would also ignore PYTHONHASHSEED."""
    return [sys.executable, "-s", "-P", "-B"]


LEVELS: dict[str, Level] = {
    "bubblewrap": Level("bubblewrap", _bubblewrap, private=True),
    "namespaces": Level("namespaces", _namespaces, private=True),
    "trusted": Level("trusted", _plain, private=False),
    "unsafe": Level("unsafe", _plain, private=False),
}


# Strongest first, each with the question why this host cannot.
CONFINED: dict[str, Callable[[], str | None]] = {"bubblewrap": bubblewrap.problem, "namespaces": namespaces.problem}


def is_bundled(source: str) -> bool:
    return hashlib.sha256(source.encode()).hexdigest() in BUNDLED_SOURCES


def confined_level() -> Level | None:
    """The strongest level that confines on this host, or None."""
    found = next((name for name, problem in CONFINED.items() if problem() is None), None)
    return LEVELS[found] if found else None


def why_not_confined() -> str:
    """Why each level that would confine cannot, with what to do about it."""
    return ". ".join(f"{name}: {problem()}" for name, problem in CONFINED.items())


def choose_level(source: str, *, trusted: bool, unsafe: bool) -> Level:
    """The strongest level for this source on this host; raises MissingToolError where none is allowed."""
    if trusted or is_bundled(source):
        return LEVELS["trusted"]
    confined = confined_level()
    if confined is not None:
        return confined
    if unsafe:
        return LEVELS["unsafe"]
    raise MissingToolError(
        f"a python grader must be confined, and here it cannot be: {why_not_confined()}. Or, for a source you trust as you trust "
        'yourself, run it unconfined: --unsafe-python-graders, or "unsafe_python_graders": true in the job\'s "pinetune" section'
    )

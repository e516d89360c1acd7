"""How the sandbox's tests attack it: one grader body at a time, on each level that says it confines."""

from __future__ import annotations

import os

import pytest

from pinetune.sandbox.levels import CONFINED, LEVELS
from pinetune.sandbox.limits import MEBIBYTE, Limits
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.process import Outcome

QUICK = Limits(wall_seconds=20.0, memory_bytes=512 * MEBIBYTE)
EACH_LEVEL = [
    pytest.param(name, marks=pytest.mark.skipif(problem() is not None, reason=f"{name} cannot confine here: {problem()}"))
    for name, problem in CONFINED.items()
]

# A grader whose body comes with each item, for attacks that must not harm the next call.
ANY_BODY = """
import os, socket, subprocess, sys, time
def grade(sample, item):
    lines = "".join(f"    {line}\\n" for line in item["text"].splitlines())
    exec("def inner(sample, item):\\n" + lines, globals())
    return inner(sample, item)
"""

# Processes a call sees when nothing was left behind: itself, the interpreter, and the first, which under bubblewrap is the
# interpreter unless root started it.
PROCESSES = {"bubblewrap": 3.0 if os.getuid() == 0 else 2.0, "namespaces": 3.0}

# What a grader finds in /tmp, but for the way to an interpreter that lives there itself (a checkout below /tmp).
IN_TMP = "[name for name in os.listdir('/tmp') if not sys.prefix.startswith('/tmp/' + name + '/')]"


def grader(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"import os, signal, socket, subprocess, sys, time\ndef grade(sample, item):\n{lines}"


def pool(level: str, body: str, limits: Limits = QUICK, size: int = 1) -> WarmPool:
    return WarmPool(grader(body), LEVELS[level], limits, size=size)


def attack(level: str, body: str, limits: Limits = QUICK, calls: int = 1) -> Outcome:
    """The last outcome of `calls` calls of a grader with this body."""
    graders = pool(level, body, limits)
    try:
        for _ in range(calls):
            outcome = graders.call({}, {})
        return outcome
    finally:
        graders.close()

"""Confinement without bubblewrap, by `launcher.py`: what the worker sees, and whether this host can do it.

It sees the same as under bubblewrap and passes the same attacks (tests/unit/test_sandbox_confined.py runs each on both).
Needs Linux 5.12 and, for users other than root, a host that lets them make user namespaces.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from pinetune.sandbox import seccomp, view
from pinetune.sandbox.limits import Limits

LAUNCHER = Path(__file__).with_name("launcher.py")


def prefix(limits: Limits, worker: Path, uid: int, interpreter: list[str]) -> list[str]:
    """The command line up to the program to run; `uid` is the user it becomes where root starts it, else 0."""
    seen = view.system_view()
    spec = {
        "uid": uid,
        "disk_bytes": limits.disk_bytes,
        "shared_bytes": view.SHARED_MEMORY_BYTES,
        "symlinks": seen.symlinks,
        # Real paths on the host's side: while the root is built, an absolute link there would lead nowhere.
        "binds": [(os.path.realpath(path), path) for path in seen.folders] + [(os.path.realpath(worker), view.WORKER_INSIDE)],
    }
    return [*interpreter, str(LAUNCHER), json.dumps(spec)]


@functools.cache
def problem() -> str | None:
    """Why this host cannot confine without bubblewrap, or None where it can: tried once with a real sandbox."""
    if sys.platform != "linux":
        return f"namespaces exist on Linux only, not on {sys.platform}"
    if seccomp.program() is None:
        return "the system-call filter has no table for this processor"
    uid = view.first_user_id() if os.getuid() == 0 else 0
    command = [*prefix(Limits(), Path(__file__), uid, [sys.executable, "-I", "-S"]), sys.executable, "-I", "-S", "-c", "pass"]
    try:
        done = subprocess.run(command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the launcher did not run ({error})"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"this host or container forbids new namespaces ({said[-1] if said else f'exit code {done.returncode}'})"

"""Confinement by bubblewrap: what the worker sees, and whether this host can do it.

It sees /usr, the interpreter and its packages read-only, a /tmp of its own in memory, and nothing else: no network, no
home, no /etc, no environment, no process but its own. As root, bwrap mounts and the worker then takes a user id of
its own; otherwise a user namespace does both.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pinetune.sandbox.limits import MEBIBYTE, Limits

WORKER_INSIDE = "/pinetune-worker.py"
SYSTEM_FOLDERS = ("/lib", "/lib32", "/lib64", "/bin", "/sbin")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives")  # how some distributions find their shared libraries


def prefix(limits: Limits, worker: Path, environment: Mapping[str, str]) -> list[str]:
    """The bwrap command line up to the program to run; `environment` is all the environment there will be."""
    return [
        *(shutil.which("bwrap") or "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *_identity(),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(64 * MEBIBYTE), "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp"),
        *_folders(),  # after /tmp, which would hide an interpreter that lives below it
        *("--ro-bind", str(worker), WORKER_INSIDE),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"),
    ]


def _identity() -> list[str]:
    if os.getuid() == 0:
        # RLIMIT_NPROC never holds for the host's root, also inside a user namespace: the worker leaves it instead.
        return ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]


def _folders() -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            arguments += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            arguments += ["--ro-bind", folder, folder]
    arguments += ["--perms", "0755", "--dir", "/etc"]
    for path in SYSTEM_FILES:
        arguments += ["--ro-bind-try", path, path]
    for root in sorted({sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable))}):
        if not Path(root).is_relative_to("/usr"):
            # bwrap makes missing parents for its own user only, which would shut out a worker that left root.
            for parent in reversed(Path(root).parents[:-1]):
                arguments += ["--perms", "0755", "--dir", str(parent)]
            arguments += ["--ro-bind", root, root]
    return arguments


@functools.cache
def problem() -> str | None:
    """Why this host cannot confine with bubblewrap and what to do, or None where it can: tried once with a real sandbox."""
    if sys.platform != "linux":
        return f"bubblewrap exists on Linux only, not on {sys.platform}"
    if shutil.which("bwrap") is None:
        return "bubblewrap was not found; install it with `apt-get install bubblewrap` (or dnf, pacman, apk)"
    command = [*prefix(Limits(), Path(__file__), {}), sys.executable, "-I", "-S", "-c", "pass"]
    try:
        done = subprocess.run(command, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap did not run ({error})"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
    return (
        f"bubblewrap is installed but fails ({said}): this host or container forbids new namespaces. In Docker, start the container "
        "with --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined; on Ubuntu 24.04 and later, "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows it"
    )

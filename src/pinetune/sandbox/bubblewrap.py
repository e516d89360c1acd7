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

from pinetune.sandbox import view
from pinetune.sandbox.limits import Limits


def prefix(limits: Limits, worker: Path, environment: Mapping[str, str]) -> list[str]:
    """The bwrap command line up to the program to run; `environment` is all the environment there will be."""
    return [
        *(shutil.which("bwrap") or "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *_identity(),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(view.SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp"),
        *_folders(),  # after /tmp, which would hide an interpreter that lives below it
        *("--ro-bind", str(worker), view.WORKER_INSIDE),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"),
    ]


def _identity() -> list[str]:
    if os.getuid() == 0:
        # RLIMIT_NPROC never holds for the host's root, also inside a user namespace: the worker leaves it instead.
        return ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    # The worker as process 1: bwrap's own would hold the pipes to the host, open to every process of the same user in there.
    # (Started by root, bwrap's process 1 stays root's, which closes it to them; and it must be there to take the worker along.)
    return ["--as-pid-1", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]


def _folders() -> list[str]:
    seen = view.system_view()
    arguments = [word for target, path in seen.symlinks for word in ("--symlink", target, path)]
    arguments += ["--perms", "0755", "--dir", "/etc"]
    for path in seen.folders:
        # bwrap makes missing parents for its own user only, which would shut out a worker that left root.
        for parent in reversed(Path(path).parents[:-1]):
            arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", path, path]
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

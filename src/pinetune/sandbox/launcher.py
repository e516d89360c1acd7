"""Confinement by our own hand where bubblewrap is absent: new namespaces, a root of a few read-only folders, then the worker.

Runs as a script with the standard library alone, started by `sandbox.namespaces`: `launcher.py SPEC PROGRAM ARGUMENT...`.
The order of steps is bubblewrap's: unshare, fork process 1 of the new process namespace, build a root in memory, pivot into
it, let go of the old one, drop every capability, exec. Three processes: the outer one, which ends when the host's thread
does; process 1, which ends when the outer one does and takes the namespace with it; the program.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 4, 24, 38, 47, 4
SIOCSIFFLAGS, IFF_UP_AND_RUNNING = 0x8914, 0x41
NOBODY = 65534
DEVICES = ("null", "zero", "full", "random", "urandom")
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    spec, command = json.loads(sys.argv[1]), sys.argv[2:]
    starter, uid, gid = os.getppid(), os.getuid(), os.getgid()
    die_with_parent()
    if os.getppid() != starter:
        return
    call("unshare", NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET | (NEWUSER if uid else 0))
    if uid:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{NOBODY} {uid} 1")
        write("/proc/self/gid_map", f"{NOBODY} {gid} 1")
    alive, held = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(held)
        run_first(spec, command, alive)
    for fd in (0, 1):  # the host sees the program's end of the pipes close, not ours
        os.close(fd)
    os._exit(exit_code(os.waitpid(first, 0)[1]))


def run_first(spec: dict[str, Any], command: list[str], alive: int) -> NoReturn:
    """Process 1: build the root, start the program, then only wait for it."""
    try:
        die_with_parent()
        if select.select([alive], [], [], 0)[0]:  # closed: the outer process was gone before we asked to die with it
            os._exit(1)
        raise_loopback()
        socket.sethostname("sandbox")
        build_root(spec)
        program = os.fork()
        if program == 0:
            drop_privileges(spec["uid"])
            os.chdir("/tmp")
            os.execv(command[0], command)
    except BaseException as error:
        os.write(2, f"launcher: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    for fd in (0, 1, 2):
        os.close(fd)
    while True:
        pid, status = os.wait()  # orphans of the namespace come to us
        if pid == program:
            os._exit(exit_code(status))


def build_root(spec: dict[str, Any]) -> None:
    """A root in memory with what `spec` names; after this nothing else of the host can be named."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir("/tmp/old")
    os.mkdir("/tmp/new")
    mount("tmpfs", "/tmp/new", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    pivot("/tmp", "/tmp/old")
    os.chdir("/")
    os.umask(0o022)
    os.mkdir("/new/proc")
    mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.mkdir("/new/tmp")
    mount("tmpfs", "/new/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={spec['disk_bytes']}")
    os.mkdir("/new/etc")
    for target, path in spec["symlinks"]:
        os.symlink(target, "/new" + path)
    for source, path in spec["binds"]:  # after /tmp, which would hide an interpreter that lives below it
        bind("/old" + source, "/new" + path)
        set_attributes("/new" + path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, AT_RECURSIVE)
    build_devices(spec["shared_bytes"])
    set_attributes("/new", ATTR_RDONLY)
    call("umount2", b"/old", MNT_DETACH)
    os.chdir("/new")
    pivot(".", ".")  # the old root now lies on top of the new one
    call("umount2", b".", MNT_DETACH)


def build_devices(shared_bytes: int) -> None:
    os.mkdir("/new/dev")
    mount("tmpfs", "/new/dev", "tmpfs", MS_NOSUID, "mode=0755,size=1m")
    for name in DEVICES:
        bind(f"/old/dev/{name}", f"/new/dev/{name}")
    os.symlink("/proc/self/fd", "/new/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"/new/dev/{name}")
    os.mkdir("/new/dev/shm")
    mount("tmpfs", "/new/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={shared_bytes}")
    set_attributes("/new/dev", ATTR_RDONLY)


def drop_privileges(uid: int) -> None:
    """No capability left, now or by any exec; started by root, also a user id that owns nothing."""
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # as no user is 0 here, exec leaves no capability


def bind(source: str, path: str) -> None:
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))
    mount(source, path, "", MS_BIND | MS_REC)


def mount(source: str, path: str, kind: str, flags: int, options: str = "") -> None:
    call("mount", source.encode(), path.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def set_attributes(path: str, attributes: int, flags: int = 0) -> None:
    """mount_setattr(2), Linux 5.12: sets these and leaves the others, on all mounts below where `flags` say so."""
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    call("syscall", MOUNT_SETATTR, AT_FDCWD, path.encode(), ctypes.c_uint(flags), wanted, ctypes.c_size_t(len(wanted)))


def pivot(new: str, old: str) -> None:
    call("syscall", PIVOT_ROOT[platform.machine()], new.encode(), old.encode())


def raise_loopback() -> None:
    """A network of its own has no way out; programs that talk to themselves over 127.0.0.1 still work."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_AND_RUNNING))


def die_with_parent() -> None:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def call(name: str, *arguments: Any) -> None:
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        shown = [a.decode(errors="replace") if isinstance(a, bytes) else a for a in arguments[:3]]
        raise OSError(number, f"{name} {shown}: {os.strerror(number)}")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def exit_code(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    main()

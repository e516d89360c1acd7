"""A system-call filter for the worker: what no grader needs and what namespaces alone do not close.

It refuses new namespaces and mounts (which would lift the limits on files and processes from the inside), tracing of
other processes and changing their limits, kernel interfaces with a long record of holes (bpf, io_uring, userfaultfd,
keyrings, perf), memory that no limit counts and that outlives a call (memfd, System V and POSIX queues), the choice of
processor cores, and all socket families but unix and internet ones: AF_VSOCK reaches a virtual machine's host from any
network namespace.
Source of the program's form: Linux Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

LOAD, JUMP_EQUAL, JUMP_NOT_LESS, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
CALL_NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
FIRST_X32_CALL = 0x40000000

# Refused calls: (number on x86_64, number on aarch64).
REFUSED: dict[str, tuple[int, int]] = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_getfd": (438, 438),
    "mount_setattr": (442, 442),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "sched_setaffinity": (203, 122),
    "syslog": (103, 116),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Numbers of one processor family; `column` is its place in REFUSED."""

    column: int
    audit: int
    clone: int
    clone3: int
    socket: int
    prlimit: int


MACHINES = {
    "x86_64": Machine(column=0, audit=0xC000003E, clone=56, clone3=435, socket=41, prlimit=302),
    "aarch64": Machine(column=1, audit=0xC00000B7, clone=220, clone3=435, socket=198, prlimit=261),
}


def program(machine: str | None = None) -> bytes | None:
    """The filter as an array of struct sock_filter, or None for a processor family without a table."""
    numbers = MACHINES.get(machine or platform.machine())
    if numbers is None:
        return None
    steps = [
        _step(LOAD, ARCHITECTURE),
        _step(JUMP_EQUAL, numbers.audit, 1, 0),
        _step(RETURN, KILL_PROCESS),
        _step(LOAD, CALL_NUMBER),
        _step(JUMP_NOT_LESS, FIRST_X32_CALL, 0, 1),
        _step(RETURN, ERRNO | ENOSYS),
    ]
    for columns in REFUSED.values():
        steps += [_step(JUMP_EQUAL, columns[numbers.column], 0, 1), _step(RETURN, ERRNO | EPERM)]
    # clone3 hides its flags behind a pointer; the C library falls back to clone when it does not exist.
    steps += [_step(JUMP_EQUAL, numbers.clone3, 0, 1), _step(RETURN, ERRNO | ENOSYS)]
    steps += [_step(JUMP_EQUAL, numbers.clone, 0, 4), _step(LOAD, FIRST_ARGUMENT)]
    steps += [_step(JUMP_ANY_BIT, NEW_NAMESPACES, 0, 1), _step(RETURN, ERRNO | EPERM), _step(RETURN, ALLOW)]
    steps += [_step(JUMP_EQUAL, numbers.prlimit, 0, 4), _step(LOAD, FIRST_ARGUMENT)]  # process 0 is the caller
    steps += [_step(JUMP_EQUAL, 0, 1, 0), _step(RETURN, ERRNO | EPERM), _step(RETURN, ALLOW)]
    steps += [_step(JUMP_EQUAL, numbers.socket, 0, len(FAMILIES) + 2), _step(LOAD, FIRST_ARGUMENT)]
    steps += [_step(JUMP_EQUAL, family, len(FAMILIES) - place, 0) for place, family in enumerate(FAMILIES)]
    steps += [_step(RETURN, ERRNO | EAFNOSUPPORT), _step(RETURN, ALLOW)]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)

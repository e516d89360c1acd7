"""Try on the spot what confinement promises: each promise is one attack, run in a real sandbox on this host."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pinetune.sandbox.levels import ENVIRONMENT, Level
from pinetune.sandbox.limits import MEBIBYTE, Limits
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.process import Outcome

# Small, so that each attack is over at once; but for the time, which a crowded machine needs and no attack that is stopped uses up.
LIMITS = Limits(wall_seconds=60.0, memory_bytes=512 * MEBIBYTE, disk_bytes=8 * MEBIBYTE, processes=20)
SHORT = Limits(wall_seconds=2.0)  # one attack is stopped by the clock alone


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: whether it held here, and what came through where it did not."""

    promise: str
    held: bool
    detail: str = ""


# Each attack is the body of grade(sample, item). It returns 1.0 where it was stopped; what it prints says how it got through.
ATTACKS: dict[str, str] = {
    "no network": """
for family, address in ((2, ("127.0.0.1", item["port"])), (2, ("192.0.2.1", 80)), (1, "\\0" + item["abstract"])):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(2)
    try: s.connect(address)
    except OSError: continue
    print("connected to", address)
    return 0.0
return 1.0""",
    "host files hidden": """
for path in (item["file"], "/etc/passwd", "/var", "/sys"):
    if os.path.exists(path):
        print("sees", path)
        return 0.0
return 1.0""",
    "system files read-only": """
for path in ("/", "/usr", "/etc", "/dev", sys.prefix):
    try: open(os.path.join(path, "pinetune-doctor"), "w").close()
    except OSError: continue
    print("wrote below", path)
    return 0.0
return 1.0""",
    "environment hidden": """
print(sorted(set(os.environ) - set(item["environment"]) - {"PWD"}))
return set(os.environ) <= set(item["environment"]) | {"PWD"}""",
    "host processes hidden": """
count = len([name for name in os.listdir("/proc") if name.isdigit()])
print(count, "processes")
return count <= 3""",
    "no way to more rights": """
import ctypes
status = open("/proc/self/status").read()
rights = [line for line in status.splitlines() if line.startswith("CapEff") and int(line.split()[1], 16)]
got = ctypes.CDLL(None).unshare(0x10000000) == 0
print("a new user namespace" if got else rights)
return not rights and not got""",
    "memory limit for one process": """
try: bytearray(4 << 30)
except MemoryError: return 1.0
print("took 4 GiB")
return 0.0""",
    "memory limit for all processes together": """
read, write = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        data = b"x" * (100 << 20)
        os.write(write, b"x")
        time.sleep(60)
for _ in range(8): os.read(read, 1)
time.sleep(5)
print("took 800 MiB")
return 0.0""",
    "process limit": """
count = 0
try:
    while count < 200:
        if os.fork() == 0: time.sleep(60)
        count += 1
except OSError: return 1.0
print("started", count)
return 0.0""",
    "disk limit": """
try: open("/tmp/large", "wb").write(bytes(16 << 20))
except OSError: return 1.0
print("wrote 16 MiB")
return 0.0""",
    "at most two cores": """
print(len(os.sched_getaffinity(0)), "cores")
return len(os.sched_getaffinity(0)) <= 2""",
    "programs cannot forge their grade": """
import subprocess
code = "import os\\nfor what, look in (('fd', os.listdir), ('mem', open)):\\n    try: look(f'/proc/{os.getppid()}/{what}')\\n"
code += "    except OSError: continue\\n    print(what)"
seen = subprocess.check_output([sys.executable, "-c", code], text=True)
print("a program opened its grader's", seen)
return not seen""",
}  # fmt: skip
STOPPED_BY_ERROR = {"memory limit for all processes together": "MemoryError"}  # the call is ended, which is the promise
TREE = """
if item: return len([name for name in os.listdir("/proc") if name.isdigit()]) <= 3
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(600)
    os._exit(0)
time.sleep(600)"""
TRACE = """
left = os.listdir("/dev/shm") + [name for name in os.listdir("/tmp") if name.startswith("doctor")]
open("/tmp/doctor", "w").close()
open("/dev/shm/doctor", "w").close()
return not left"""


def check(level: Level) -> list[Finding]:
    """What `level` keeps of its promises on this host; takes a few seconds. Never raises for an attack that got through."""
    abstract = f"pinetune-doctor-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unnamed,
        tempfile.NamedTemporaryFile(dir=_visible_folder()) as file,
    ):
        unnamed.bind("\0" + abstract)
        unnamed.listen()
        item = {"port": server.getsockname()[1], "abstract": abstract, "file": file.name, "environment": list(ENVIRONMENT)}
        findings = [_attack(level, promise, body, item) for promise, body in ATTACKS.items()]
    return [*findings, _twice(level, "one call leaves nothing for the next", TRACE, LIMITS), _tree(level)]


def _attack(level: Level, promise: str, body: str, item: Mapping[str, Any]) -> Finding:
    pool = WarmPool(_source(body), level, LIMITS, size=1)
    try:
        outcome = pool.call({}, item)
    finally:
        pool.close()
    expected = STOPPED_BY_ERROR.get(promise)
    held = outcome.value == 1.0 or (expected is not None and outcome.error.startswith(expected))
    return Finding(promise, held, "" if held else _detail(outcome))


def _twice(level: Level, promise: str, body: str, limits: Limits) -> Finding:
    pool = WarmPool(_source(body), level, limits, size=1)
    try:
        pool.call({}, {})
        outcome = pool.call({}, {"look": True})
    finally:
        pool.close()
    return Finding(promise, outcome.value == 1.0, "" if outcome.value == 1.0 else _detail(outcome))


def _tree(level: Level) -> Finding:
    return _twice(level, "a call that takes too long ends with all it started", TREE, SHORT)


def _source(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"import os, socket, sys, time\ndef grade(sample, item):\n{lines}"


def _detail(outcome: Outcome) -> str:
    return (outcome.printed or outcome.error).strip().splitlines()[-1][:200] if outcome.printed or outcome.error else "not stopped"


def _visible_folder() -> str | None:
    """Where a file of the host lies that no grader may see: the home folder, else the default for temporary files."""
    home = os.path.expanduser("~")
    return home if os.access(home, os.W_OK) else None

"""The warm interpreter of one python grader: runs as its own process, inside the confinement, and forks a child per call.

Started by `sandbox.process` as a script, it must not import pinetune (not mounted in the sandbox) nor anything but the
standard library. It reads frames (4 bytes of length, then JSON) from stdin and answers on stdout:

    {"source": text, "early": modules to import} -> {"ready": true} or {"ready": false, "error": traceback}
    {"sample": ..., "item": ...} -> {"value": 0.7, "printed": ""} or {"error": text, "kind": "runtime", "printed": ""}

The source was executed in this very process, so nothing here guards its grades against its author. Guarded are the host
(by the confinement around us), one call from another (each runs in its own child, swept away afterwards), and the grade
from the programs the grader starts, which may be a model's answer: they reach neither its memory nor its pipes. An answer
that the grader executes inside its own process is the grader itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import linecache
import math
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

HEADER = struct.Struct("!I")
MAX_ERROR_CHARS = 8_000
MAX_RESULT_BYTES = 12 * MAX_ERROR_CHARS + 4_000  # a character is at most 12 bytes of JSON
MEMORY_CHECK_SECONDS = 0.1
SETTLE_SECONDS = 2.0  # for killed processes to be gone
SCRATCH_FOLDERS = ("/tmp", "/dev/shm")
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 4, 22, 38, 2
LIBC = ctypes.CDLL(None, use_errno=True)

Grade = Callable[[Any, Any], Any]
Config = dict[str, Any]
Scratch = dict[str, tuple[int, int]]


def main() -> None:
    config: Config = json.loads(sys.argv[1])
    requests, responses = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a print of half a surrogate pair is no fault
    confine(config)
    request = read_frame(requests)
    if request is None:
        return
    try:
        body = json.loads(request)
        function = load(body["source"])
    except BaseException as error:  # SystemExit of the source's top level included
        write_frame(responses, json.dumps({"ready": False, "error": describe(error)}).encode())
        return
    for name in body["early"]:
        with contextlib.suppress(Exception):  # the call that needs it says what is wrong
            importlib.import_module(name)
    sys.stdout.flush()  # to nowhere: left in the buffer, each child would print it again
    gc.collect()
    gc.freeze()  # the children share these pages as long as no collection writes to them
    kept = scratch() if config["private"] else {}
    write_frame(responses, b'{"ready": true}')
    while (request := read_frame(requests)) is not None:
        answer = Call(function, config, requests, responses).run(request)
        if config["private"] and not sweep(kept):
            answer["worn"] = True  # this call left a trace that cannot be undone: the host takes a new interpreter
        write_frame(responses, json.dumps(answer).encode())


def confine(config: Config) -> None:
    """What a process can only do to itself: drop root, take on the limits. The rest was done around us."""
    if config["uid"] and os.getuid() == 0:  # a user id of its own: its processes are counted alone, and it owns nothing
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # Shut our memory and pipes to the programs that calls start, and, inherited, those of the call itself; exec undoes it.
    prctl(PR_SET_DUMPABLE, 0)
    limit(resource.RLIMIT_AS, config["memory_bytes"])
    limit(resource.RLIMIT_FSIZE, config["disk_bytes"])
    limit(resource.RLIMIT_NOFILE, config["open_files"])
    limit(resource.RLIMIT_CORE, 0)
    if config["private"]:  # elsewhere it would count the other processes of the same user
        limit(resource.RLIMIT_NPROC, config["processes"])
    if config["cores"] and sys.platform == "linux":
        allowed = sorted(os.sched_getaffinity(0))
        first = config["turn"] * config["cores"] % len(allowed)  # each worker its own cores, as far as they go
        os.sched_setaffinity(0, (allowed + allowed)[first : first + config["cores"]])
    if config["filter"]:
        refuse_calls(bytes.fromhex(config["filter"]))


def refuse_calls(program: bytes) -> None:
    """Install a system-call filter (an array of struct sock_filter); children inherit it and nothing can lift it."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(program) // 8, program)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system-call filter was refused")


def limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    # macOS refuses some limits outright; only the weaker modes run there.
    with contextlib.suppress(ValueError, OSError) if sys.platform == "darwin" else contextlib.nullcontext():
        resource.setrlimit(kind, (value, value))


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux" and LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def load(source: str) -> Grade:
    """Execute the source once, as a module of its own, and return its `grade`."""
    module = types.ModuleType("grader")  # not __main__: a script's own test block must not run
    module.__file__ = "grader.py"
    sys.modules["grader"] = module  # dataclasses and pickle look a class's module up there
    # Every line ends in a newline, else a traceback's marks stand one off.
    linecache.cache["grader.py"] = (len(source), None, [f"{line}\n" for line in source.split("\n")], "grader.py")
    exec(compile(source, "grader.py", "exec"), module.__dict__)
    function = module.__dict__.get("grade")
    if not callable(function):
        raise TypeError("the source defines no function grade(sample, item)")
    return function  # type: ignore[no-any-return]


class Call:
    """One call in a forked child: its pipes, its deadline, and what became of it."""

    def __init__(self, function: Grade, config: Config, requests: int, responses: int) -> None:
        self.function, self.config = function, config
        self.requests, self.responses = requests, responses
        self.result_read, self.result_write = os.pipe()
        self.printed_read, self.printed_write = os.pipe()
        self.result, self.printed = b"", b""

    def run(self, request: bytearray) -> dict[str, Any]:
        start = time.monotonic()
        try:
            data = json.loads(request)  # here and not in the child, which would pay for touching the pages this needs
            request.clear()  # no second copy of the row for an answer that the grader runs
            pid = os.fork()
        except (OSError, ValueError, RecursionError) as error:
            self.close(self.result_read, self.result_write, self.printed_read, self.printed_write)
            return {"error": f"cannot start this call: {error}", "kind": "server", "worn": isinstance(error, OSError)}
        if pid == 0:
            self.child(data)
        self.close(self.result_write, self.printed_write)
        fault = self.wait(start + self.config["wall_seconds"])
        status = reap(pid, grace_seconds=0 if fault or self.complete() else 1)
        self.drain()
        self.close(self.result_read, self.printed_read)
        answer = self.answer(fault or describe_exit(status, self.config))
        answer["printed"] = self.printed.decode(errors="replace")[: self.config["printed_chars"]]
        return answer

    def answer(self, fault: str) -> dict[str, Any]:
        if self.complete():
            fault = "the grader's process wrote something that is no result"
            with contextlib.suppress(ValueError, RecursionError):
                answer = json.loads(self.result[HEADER.size :])
                if isinstance(answer, dict):
                    return {name: answer[name] for name in ("value", "error", "kind") if name in answer}
        return {"error": fault, "kind": "runtime"}

    def complete(self) -> bool:
        return len(self.result) >= HEADER.size and len(self.result) - HEADER.size >= HEADER.unpack(self.result[: HEADER.size])[0]

    def wait(self, deadline: float) -> str:
        """Until the child has answered or closed its pipe; a fault in words where it had to be stopped, else ""."""
        poller = select.poll()
        poller.register(self.result_read, select.POLLIN)
        poller.register(self.printed_read, select.POLLIN)
        poller.register(self.requests, 0)  # only a hang-up: the host is gone, nobody waits for the answer
        check_at = time.monotonic() + MEMORY_CHECK_SECONDS
        while True:
            now = time.monotonic()
            if now >= deadline:
                return f"TimeoutError: no result after {self.config['wall_seconds']:g} seconds"
            if self.config["private"] and now >= check_at:
                check_at = now + MEMORY_CHECK_SECONDS
                if resident_bytes() > self.config["memory_bytes"]:
                    return f"MemoryError: its processes together used more than {self.config['memory_bytes'] >> 20} MiB"
            for fd, event in poller.poll(max(1.0, min(deadline - now, MEMORY_CHECK_SECONDS) * 1000)):
                if fd == self.requests and event & (select.POLLHUP | select.POLLERR):
                    return "the host is gone"
                if fd == self.printed_read and not self.read_printed():
                    poller.unregister(fd)
                if fd == self.result_read:
                    data = os.read(fd, MAX_RESULT_BYTES)
                    self.result += data
                    if not data or self.complete() or len(self.result) > MAX_RESULT_BYTES:
                        return ""

    def read_printed(self) -> bool:
        data = os.read(self.printed_read, 65536)
        room = 4 * self.config["printed_chars"] - len(self.printed)  # a character takes at most 4 bytes
        self.printed += data[: max(0, room)]
        return bool(data)

    def drain(self) -> None:
        """What was printed last; a bounded read, since a grandchild may still hold the pipe and print."""
        os.set_blocking(self.printed_read, False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):
                if not self.read_printed():
                    return

    def child(self, data: dict[str, Any]) -> NoReturn:
        """Run the function. Each page of memory that this touches is copied first: that, not the work, is what a call costs."""
        try:
            self.close(self.requests, self.responses, self.result_read, self.printed_read)
            os.setsid()
            os.dup2(self.printed_write, 1)
            os.dup2(self.printed_write, 2)
            os.close(self.printed_write)
            os.register_at_fork(after_in_child=self.disown)
            if not self.config["private"]:  # else the namespace ends with us, and whatever is left of a call with the call
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                limit(resource.RLIMIT_CPU, math.ceil(2 * self.config["wall_seconds"]) + 1)
            answer = b'{"value": %s}' % repr(as_float(self.function(data["sample"], data["item"]))).encode()
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the grader too
            answer = json.dumps({"error": describe(error), "kind": "runtime"}).encode()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                stream.flush()
        with contextlib.suppress(BaseException):
            write_frame(self.result_write, answer)
        os._exit(0)

    def disown(self) -> None:
        """In a process the call forks: it has no grade to give. (A call's own process stays undumpable, see confine.)"""
        with contextlib.suppress(OSError):  # the grader may have closed it
            os.close(self.result_write)
        self.result_write = -1
        prctl(PR_SET_DUMPABLE, 1)

    @staticmethod
    def close(*fds: int) -> None:
        for fd in fds:
            os.close(fd)


def as_float(value: Any) -> float:
    """A grade: any finite real number (int, bool, numpy scalar, Decimal); everything else is the grader's fault."""
    if type(value) is float and value - value == 0.0:  # the usual case, at once; false for infinity and NaN
        return value
    if isinstance(value, (str, bytes)) or not hasattr(type(value), "__float__") or getattr(value, "ndim", 0) != 0:
        raise TypeError(f"grade() must return a number, not {'None' if value is None else type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"grade() must return a finite number, not {number}")
    return number


def describe(error: BaseException) -> str:
    """The traceback without our own frames, its middle cut where it is long."""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace, limit=-20)).strip()
    except BaseException:  # an exception whose __str__ raises, or no memory left to format it
        text = type(error).__name__
    half = MAX_ERROR_CHARS // 2
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[:half]}\n[...]\n{text[-half:]}"


def describe_exit(status: int, config: Config) -> str:
    if not os.WIFSIGNALED(status):
        return f"the grader's process exited with code {os.WEXITSTATUS(status)} before grade() returned"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return f"TimeoutError: used more processor time than {config['wall_seconds']:g} seconds allow"
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"the grader's process was killed by {name} before grade() returned"


def reap(pid: int, grace_seconds: float) -> int:
    """End the child and its group; its wait status. A child that closed its pipe gets a moment to end by itself."""
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline:
        if (done := os.waitpid(pid, os.WNOHANG))[0]:
            return done[1]
        time.sleep(0.001)
    for end in (os.killpg, os.kill):  # the group is the child's own from setsid on; before that there is only the child
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def sweep(kept: Scratch) -> bool:
    """End every process the call left behind, then remove its files; False where something stays changed.

    Only inside a process namespace of our own: it kills all there is but this process and the first.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while left_processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    try:
        for path in {entry.path for root in SCRATCH_FOLDERS if os.path.isdir(root) for entry in os.scandir(root)} - kept.keys():
            remove(path)
    except (OSError, RecursionError):
        return False
    return scratch() == kept


def remove(path: str) -> None:
    import shutil  # here, since the compression libraries it loads make each fork dearer

    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)  # holds a file open for each level: a tree deeper than the limit on those is an OSError


def left_processes() -> bool:
    """Kill whatever is left; whether there was anything, dead or alive."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
        return True
    return False


def scratch() -> Scratch:
    """All that calls can write to: each path with what changes when it does (a file's change time cannot be set back)."""
    found: Scratch = {}
    for root in SCRATCH_FOLDERS:
        if os.path.isdir(root):
            here = os.lstat(root)
            found[root] = (here.st_ino, here.st_mode)  # its times change with each file that comes and goes
            todo = [root]
            while todo:
                with contextlib.suppress(OSError):
                    for entry in os.scandir(todo.pop()):
                        state = entry.stat(follow_symlinks=False)
                        found[entry.path] = (state.st_ino, state.st_ctime_ns)
                        if state.st_dev == here.st_dev and entry.is_dir(follow_symlinks=False):  # not into read-only mounts
                            todo.append(entry.path)
    return found


def resident_bytes() -> int:
    """Resident memory of all processes here, shared pages counted once: each process's proportional set size."""
    total = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        except OSError:  # gone, or it closed its /proc to us: then count all it has
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/statm") as file:
                total += int(file.read().split()[1]) * resource.getpagesize()
    return total


def read_frame(fd: int) -> bytearray | None:
    header = read_exactly(fd, HEADER.size)
    return None if header is None else read_exactly(fd, HEADER.unpack(header)[0])


def read_exactly(fd: int, size: int) -> bytearray | None:
    data = bytearray()
    while len(data) < size:
        part = os.read(fd, min(size - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return data


def write_frame(fd: int, body: bytes) -> None:
    data = HEADER.pack(len(body)) + body
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()

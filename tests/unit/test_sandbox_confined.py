"""What only confinement promises, each with an attack: no network, no host files, environment or processes, a tree that ends."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Iterator

import pytest

from pinetune.sandbox import bubblewrap
from pinetune.sandbox.levels import ENVIRONMENT, LEVELS
from pinetune.sandbox.limits import MEBIBYTE, Limits
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.process import Outcome
from pinetune.sandbox.seccomp import MACHINES

pytestmark = pytest.mark.skipif(bubblewrap.problem() is not None, reason=f"bubblewrap cannot confine here: {bubblewrap.problem()}")
QUICK = Limits(wall_seconds=20.0, memory_bytes=512 * MEBIBYTE)


@pytest.fixture(scope="module")
def any_body() -> Iterator[WarmPool]:
    """One pool for many attacks: each call brings its own function body, and none may harm the next."""
    source = (
        "import os, socket, sys\n"
        "def grade(sample, item):\n"
        "    lines = ''.join(f'    {line}\\n' for line in item['text'].splitlines())\n"
        "    exec('def inner(item):\\n' + lines, globals())\n"
        "    return inner(item)\n"
    )
    pool = WarmPool(source, LEVELS["bubblewrap"], QUICK, size=1)
    yield pool
    pool.close()


# What a grader finds in /tmp, but for the way to an interpreter that lives there itself (a checkout below /tmp).
IN_TMP = "[name for name in os.listdir('/tmp') if not sys.prefix.startswith('/tmp/' + name + '/')]"


def attack(text: str, limits: Limits = QUICK, calls: int = 1) -> Outcome:
    """The last outcome of `calls` calls of a grader with this body."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    pool = WarmPool(f"import os, socket, subprocess, sys, time\ndef grade(sample, item):\n{lines}", LEVELS["bubblewrap"], limits, size=1)
    try:
        for _ in range(calls):
            outcome = pool.call({}, {})
        return outcome
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("os.listdir(item['home'])", "FileNotFoundError"),
        ("open(item['this_file']).read()", "FileNotFoundError"),
        ("open('/usr/planted', 'w')", "Error"),
        ("open('/planted', 'w')", "Read-only file system"),
        ("open('/dev/planted', 'w')", "Read-only file system"),
        ("open(os.path.join(sys.prefix, 'planted'), 'w')", "Error"),
        ("open('/proc/sys/kernel/hostname', 'w')", "Error"),
        ("socket.create_connection(('1.1.1.1', 53), timeout=5)", "Network is unreachable"),
        ("socket.create_connection(('127.0.0.1', item['port']), timeout=5)", "Connection refused"),
        ("socket.getaddrinfo('example.com', 80)", "gaierror"),
        ("os.setuid(0)", "Error"),
        ("import ctypes\nraise ValueError(ctypes.CDLL(None).unshare(0x10000000))", "ValueError: -1"),
        ("import ctypes\nraise ValueError(ctypes.CDLL(None).syscall(item['clone'], 0x10000000 | 17, 0, 0, 0, 0))", "ValueError: -1"),
        ("import ctypes\nraise ValueError(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))", "ValueError: -1"),
        ("import ctypes\nraise ValueError(ctypes.CDLL(None).mount(b't', b'/tmp', b'tmpfs', 0, 0))", "ValueError: -1"),
        ("import ctypes\nraise ValueError(ctypes.CDLL(None).syscall(425, 1, 0))", "ValueError: -1"),
        ("socket.socket(40, socket.SOCK_STREAM)", "Address family not supported"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "Address family not supported"),
        ("os.chroot('/')", "PermissionError"),
        ("os.kill(1, 9)\nos.kill(int(item['pid']), 9)", "Error"),
        ("raise ValueError(sorted(os.environ))", f"ValueError: {sorted([*ENVIRONMENT, 'PWD'])}"),
        ("open(f'/proc/{os.getppid()}/mem', 'r+b')", "PermissionError"),
        ("open(f'/proc/{os.getppid()}/fd/3', 'wb')", "PermissionError"),
        ("raise ValueError(len([p for p in os.listdir('/proc') if p.isdigit()]))", "ValueError: 3"),
        (f"raise ValueError(os.listdir('/dev/shm') + {IN_TMP})", "ValueError: []"),
    ],
)  # fmt: skip
def test_the_host_is_out_of_reach(any_body: WarmPool, text: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        item = {"home": os.path.expanduser("~/.ssh"), "this_file": __file__, "port": server.getsockname()[1], "pid": os.getpid()}
        outcome = any_body.call({}, {"text": text, "clone": MACHINES[platform.machine()].clone} | item)
    assert outcome.value is None and outcome.kind == "runtime"
    assert said in outcome.error


def test_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    outcome = attack("raise ValueError([open(f'/proc/{p}/environ').read() for p in ('self', '1')] + sorted(os.environ))")
    assert "PermissionError" in outcome.error or "PYTHONHASHSEED" in outcome.error  # of process 1, as root and not as root
    assert "sk-secret" not in outcome.error


def test_a_fork_bomb_ends_with_its_call_and_spares_the_next() -> None:
    bomb = "if not item.get('bomb'): return 1.0\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    pool = WarmPool(f"import os, time\ndef grade(sample, item):\n{_indent(bomb)}", LEVELS["bubblewrap"], Limits(wall_seconds=0.5), size=1)
    try:
        assert pool.call({}, {}).value == 1.0
        worker = pool._idle[0]
        assert "TimeoutError" in pool.call({}, {"bomb": True}).error
        assert pool.call({}, {}).value == 1.0
        assert pool._idle == [worker]  # the interpreter stayed warm
    finally:
        pool.close()


def test_processes_are_counted() -> None:
    text = "count = 0\ntry:\n    while os.fork(): count += 1\n    time.sleep(60)\nexcept BlockingIOError:\n    return count"
    outcome = attack(text, Limits(wall_seconds=20.0, processes=20))
    assert outcome.value is not None and 10 <= outcome.value <= 20


def test_what_a_call_leaves_running_or_in_files_is_gone_before_the_next() -> None:
    text = (
        "left = [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 2 and int(p) != os.getpid()]\n"
        f"if left or {IN_TMP} or os.listdir('/dev/shm'): raise ValueError(left)\n"
        "os.makedirs('/tmp/a/b')\n"
        "open('/tmp/a/b/c', 'w').write('x')\n"
        "os.symlink('/usr', '/tmp/link')\n"
        "open('/dev/shm/y', 'w').write('y')\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "return 1.0"
    )
    assert attack(text, calls=3).value == 1.0


def test_files_of_the_top_level_stay() -> None:
    source = "open('/tmp/table', 'w').write('0.5')\ndef grade(sample, item): return float(open('/tmp/table').read())"
    pool = WarmPool(source, LEVELS["bubblewrap"], QUICK, size=1)
    try:
        assert [pool.call({}, {}).value for _ in range(3)] == [0.5, 0.5, 0.5]
    finally:
        pool.close()


def test_the_disk_is_bounded() -> None:
    text = "for i in range(100):\n    with open(f'/tmp/{i}', 'wb') as file: file.write(b'x' * 1_000_000)\nreturn 1.0"
    assert "No space left on device" in attack(text, Limits(wall_seconds=20.0, disk_bytes=8 * MEBIBYTE)).error


def test_the_memory_of_all_processes_together_is_bounded() -> None:
    """Each process stays under its own limit; ten of them would take 600 MB."""
    text = "for _ in range(10):\n    if os.fork() == 0:\n        data = b'x' * 60_000_000\n        time.sleep(60)\ntime.sleep(60)"
    outcome = attack(text, Limits(wall_seconds=20.0, memory_bytes=256 * MEBIBYTE))
    assert outcome.error == "MemoryError: its processes together used more than 256 MiB"


def test_killing_the_interpreter_from_a_call_is_the_graders_error() -> None:
    pool = WarmPool(
        f"import os\ndef grade(sample, item):\n{_indent('if item: os.kill(os.getppid(), 9)')}    return 1.0\n", LEVELS["bubblewrap"], QUICK
    )
    try:
        outcome = pool.call({}, {"kill": 1})
        assert (outcome.value, outcome.kind) == (None, "runtime")
        assert pool.call({}, {}).value == 1.0
    finally:
        pool.close()


def test_a_stopped_interpreter_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.sandbox.process.GRACE_SECONDS", 0.2)
    outcome = attack("import signal\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)", Limits(wall_seconds=0.3))
    assert "gave no answer in 0.3 seconds" in outcome.error


def test_closing_ends_a_call_in_flight() -> None:
    pool = WarmPool("import time\ndef grade(sample, item): time.sleep(600)", LEVELS["bubblewrap"], Limits(), size=1)
    assert pool.warm() is None
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(pool.call({}, {})))
    thread.start()
    while not pool._busy:
        pass
    pool.close()
    thread.join(timeout=20)
    assert [outcome.error for outcome in outcomes] == ["the grader was closed"]


def _indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())

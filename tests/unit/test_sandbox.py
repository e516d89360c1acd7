"""Python graders in their child processes: every outcome is a value or an error in words, never a silent 0.

Each test runs in the weak level (no system package) and, where bubblewrap works, confined. What only confinement
promises is in test_sandbox_confined.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import MissingToolError
from pinetune.graders.build import build_grader
from pinetune.graders.python import PythonGrader
from pinetune.records import Completion, Grade, Row
from pinetune.sandbox import bubblewrap
from pinetune.sandbox.levels import CONFINED, LEVELS, choose_level, confined_level
from pinetune.sandbox.limits import MEBIBYTE, Limits
from pinetune.sandbox.pool import WarmPool

QUICK = Limits(wall_seconds=20.0, memory_bytes=512 * MEBIBYTE)
BEST = confined_level()
STRANGERS = pytest.param(
    BEST.name if BEST else "confined",
    marks=pytest.mark.skipif(BEST is None, reason=f"cannot confine here: {[problem() for problem in CONFINED.values()]}"),
)


@pytest.fixture(params=["trusted", STRANGERS])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(level: str, source: str, item: dict[str, Any] | None = None, limits: Limits = QUICK, calls: int = 1) -> Grade:
    """The last of `calls` grades of the answer "42"."""
    grader = build_grader({"type": "python", "source": source}, trusted=level == "trusted", limits=limits)
    assert isinstance(grader, PythonGrader) and grader.level.name == level
    try:
        for _ in range(calls):
            grade = grader.grade(Completion((), (), (), "stop", "42"), Row(0, (), item or {}))
        return grade
    finally:
        grader.close()


ANY_BODY = """
import os, sys, time
def grade(sample, item):
    scope = {}
    lines = "".join(f"    {line}\\n" for line in item["text"].splitlines())
    exec(compile("import os, sys, time\\ndef grade(sample, item):\\n" + lines, "inner.py", "exec"), scope)
    return scope["grade"](sample, item)
"""


@pytest.fixture(scope="module", params=["trusted", STRANGERS])
def any_body(request: pytest.FixtureRequest) -> Iterator[WarmPool]:
    """One pool for many tests: each call brings its own function body, and none may harm the next."""
    pool = WarmPool(ANY_BODY, LEVELS[request.param], QUICK, size=1)
    yield pool
    pool.close()


def body(text: str) -> str:
    return "import os, sys, time\ndef grade(sample, item):\n" + "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def grade(sample, item): return 0.25", 0.25),
        ("def grade(sample, item): return 3", 3.0),
        ("def grade(sample, item): return -1.5", -1.5),
        ("def grade(sample, item): return sample['output_text'] == item['answer']", 1.0),
        ("def grade(sample, item, weights=[0.5, 0.25]): return sum(weights)", 0.75),
        ("from decimal import Decimal\ndef grade(sample, item): return Decimal('0.5')", 0.5),
        ("import numpy as np\ndef grade(sample, item): return np.float32(0.5)", 0.5),
        ("import numpy as np\ndef grade(sample, item): return np.mean([0, 1]) > 0.2", 1.0),
        ("import math\nHALF = 0.5\ndef helper(x):\n    return math.sqrt(x) * HALF\ndef grade(sample, item): return helper(4)", 1.0),
        ("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: float = 0.5\ndef grade(sample, item): return A().x", 0.5),
        ("if __name__ == '__main__':\n    raise SystemExit\ndef grade(sample, item): return 1.0", 1.0),
        (
            "import subprocess, sys\ndef grade(sample, item): return float(subprocess.check_output([sys.executable, '-c', 'print(0.5)']))",
            0.5,
        ),
    ],
)
def test_values(level: str, source: str, value: float) -> None:
    grade = run(level, source, {"answer": "42"})
    assert (grade.status, grade.value, grade.explanation) == ("ok", value, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no ' + sample['output_text'])", "ValueError: no 42"),
        ("return None", "TypeError: grade() must return a number, not None"),
        ("return float('nan')", "ValueError: grade() must return a finite number, not nan"),
        ("return float('-inf')", "ValueError: grade() must return a finite number, not -inf"),
        ("return '1.0'", "TypeError: grade() must return a number, not str"),
        ("return [1.0]", "TypeError: grade() must return a number, not list"),
        ("return 1j", "TypeError: grade() must return a number, not complex"),
        ("return 10 ** 400", "OverflowError: int too large to convert to float"),
        ("return 'x' * 100_000_000", "TypeError: grade() must return a number, not str"),
        ("sys.exit(0)", "SystemExit: 0"),
        ("os._exit(0)", "the grader's process exited with code 0 before grade() returned"),
        ("os._exit(7)", "the grader's process exited with code 7 before grade() returned"),
        ("os.abort()", "the grader's process was killed by SIGABRT before grade() returned"),
        ("import ctypes\nctypes.string_at(0)", "the grader's process was killed by SIGSEGV before grade() returned"),
        ("return grade(sample, item)", "RecursionError: maximum recursion depth exceeded"),
        ("return len(bytearray(100 << 30))", "MemoryError"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "E"),
        ("raise ValueError('x' * 1_000_000)", "[...]"),
        ("os.closerange(3, 256)\nreturn 1.0", "the grader's process exited with code 0 before grade() returned"),
        ("import tempfile\ntempfile.TemporaryFile().truncate(2 << 30)", "OSError: [Errno 27] File too large"),
    ],
)
def test_errors(any_body: WarmPool, text: str, said: str) -> None:
    outcome = any_body.call({"output_text": "42"}, {"text": text})
    assert (outcome.value, outcome.kind) == (None, "runtime")
    assert said in outcome.error
    assert len(outcome.error) < 10_000


def test_a_runtime_error_has_openais_flag(level: str) -> None:
    grade = run(level, "def grade(sample, item): return None")
    assert (grade.status, grade.error_kind) == ("error", "python_grader_runtime_error")


def test_a_traceback_shows_the_users_lines_only(level: str) -> None:
    grade = run(level, "def inner():\n    return 1 / 0\ndef grade(sample, item):\n    return inner()\n")
    assert grade.explanation.splitlines() == [
        "Traceback (most recent call last):",
        '  File "grader.py", line 4, in grade',
        "    return inner()",
        "           ^^^^^^^",
        '  File "grader.py", line 2, in inner',
        "    return 1 / 0",
        "           ~~^~~",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name\ndef grade(sample, item): return 1.0", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("raise SystemExit(3)\ndef grade(sample, item): return 1.0", "SystemExit: 3"),
        ("grade = 3", "TypeError: the source defines no function grade(sample, item)"),
        ("data = bytearray(100 << 30)\ndef grade(sample, item): return 1.0", "MemoryError"),
    ],
)
def test_a_source_that_fails_to_load_fails_each_grade(level: str, source: str, said: str) -> None:
    grade = run(level, source, calls=2)
    assert (grade.status, grade.error_kind) == ("error", "python_grader_runtime_error")
    assert said in grade.explanation


def test_a_source_that_kills_its_interpreter_is_no_zero(level: str) -> None:
    grade = run(level, "import os\nos._exit(0)\ndef grade(sample, item): return 1.0")
    assert (grade.status, grade.error_kind) == ("error", "python_grader_server_error")
    assert "ended while loading the source" in grade.explanation


def test_an_endless_loop_is_stopped_and_the_next_call_works(level: str) -> None:
    source = body("while item.get('loop'): pass\nreturn 1.0")
    grader = build_grader({"type": "python", "source": source}, trusted=level == "trusted", limits=Limits(wall_seconds=0.8))
    answer = Completion((), (), (), "stop", "42")
    try:
        stopped = grader.grade(answer, Row(0, (), {"loop": True}))
        assert (stopped.status, stopped.explanation) == ("error", "TimeoutError: no result after 0.8 seconds")
        assert grader.grade(answer, Row(0, (), {})).value == 1.0
    finally:
        grader.close()


def test_sleeping_for_ever_is_stopped(level: str) -> None:
    grade = run(
        level, body("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1e6)"), limits=Limits(wall_seconds=0.8)
    )
    assert grade.explanation == "TimeoutError: no result after 0.8 seconds"


def test_prints_are_kept_up_to_the_limit(level: str) -> None:
    limits = Limits(wall_seconds=20, printed_chars=100)
    grade = run(
        level,
        body("print('to out')\nsys.stdout.flush()\nprint('to err', file=sys.stderr)\nos.write(1, b'raw\\n')\nreturn 1.0"),
        limits=limits,
    )
    assert (grade.value, grade.explanation) == (1.0, "to out\nto err\nraw\n")
    flood = run(level, body("for _ in range(200_000): print('é' * 100)\nreturn 1.0"), limits=limits)
    assert (flood.value, flood.explanation) == (1.0, "é" * 100)


def test_calls_do_not_see_each_other(level: str) -> None:
    """Each runs in a child of its own: a global changed by one is as it was for the next."""
    assert run(level, "count = 0\ndef grade(sample, item):\n    global count\n    count += 1\n    return count", calls=3).value == 1.0


def test_the_source_is_executed_once(level: str) -> None:
    """The interpreter is warm: what the top level drew stays the same over calls."""
    source = "import random\nprint('loading')\ndrawn = random.random()\ndef grade(sample, item): return drawn"
    grader = build_grader({"type": "python", "source": source}, trusted=level == "trusted", limits=QUICK)
    try:
        assert len({grader.grade(Completion((), (), (), "stop", ""), Row(0, (), {})).value for _ in range(5)}) == 1
    finally:
        grader.close()


def test_sets_are_walked_in_the_same_order_each_time(level: str) -> None:
    source = "names = list({f'n{i}' for i in range(50)})\ndef grade(sample, item): return names.index('n7')"
    assert run(level, source).value == run(level, source).value


def test_sample_and_item_travel_whole(level: str) -> None:
    item = {"text": "é\ud800\n", "nested": [{"a": None, "b": [1.5, True]}], "big": "x" * 3_000_000}
    source = body("assert item['text'] == 'é\\ud800\\n'\nassert item['nested'] == [{'a': None, 'b': [1.5, True]}]\nreturn len(item['big'])")
    assert run(level, source, item).value == 3_000_000.0


def test_too_large_or_unfit_items_are_not_sent(level: str) -> None:
    source = "def grade(sample, item): return 1.0"
    large = run(level, source, {"x": "y" * 2000}, limits=Limits(request_bytes=1000))
    assert large.error_kind == "python_grader_server_error" and "bytes of JSON, more than 1000" in large.explanation
    assert "is no JSON" in run(level, source, {"x": {1, 2}}).explanation


def test_many_threads_grade_at_once(level: str) -> None:
    pool = WarmPool("def grade(sample, item): return item['i']", LEVELS[level], QUICK, size=2)
    try:
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(lambda i: pool.call({}, {"i": i}), range(60)))
        assert [outcome.value for outcome in outcomes] == [float(i) for i in range(60)]
        assert pool.call({}, {"i": 5}).value == 5.0  # the workers outlive the threads that started them
    finally:
        pool.close()
    assert pool.call({}, {"i": 1}).error == "the grader was closed"


def test_a_dead_worker_is_replaced(level: str) -> None:
    pool = WarmPool("import os\ndef grade(sample, item): return 1.0", LEVELS[level], QUICK, size=1)
    try:
        assert pool.call({}, {}).value == 1.0
        worker = pool._idle[0]
        os.killpg(worker._process.pid, 9)
        give_up = time.monotonic() + 60
        while pool._idle == [worker] and time.monotonic() < give_up:  # the confined process dies a moment after its parent
            assert pool.call({}, {}).value == 1.0
        assert pool._idle != [worker]
    finally:
        pool.close()


@pytest.fixture
def no_bwrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    bubblewrap.problem.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    yield
    bubblewrap.problem.cache_clear()


@pytest.mark.usefixtures("no_bwrap")
@pytest.mark.skipif(CONFINED["namespaces"]() is not None, reason=f"no namespaces here: {CONFINED['namespaces']()}")
def test_without_bubblewrap_our_own_launcher_confines() -> None:
    assert choose_level("x", trusted=False, unsafe=True).name == "namespaces"


@pytest.mark.usefixtures("no_bwrap")
def test_without_either_strangers_are_refused_and_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFINED, "namespaces", lambda: "this host forbids new namespaces")
    definition = {"type": "python", "source": "def grade(sample, item): return 1.0"}
    with pytest.raises(MissingToolError, match="apt-get install bubblewrap"):
        build_grader(definition)
    assert choose_level("x", trusted=False, unsafe=True).name == "unsafe"
    assert choose_level("x", trusted=True, unsafe=False).name == "trusted"
    unsafe = build_grader(definition, unsafe_python=True)
    try:
        assert unsafe.grade(Completion((), (), (), "stop", ""), Row(0, (), {})).value == 1.0
    finally:
        unsafe.close()


def test_a_bwrap_that_fails_is_refused_with_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(CONFINED, "namespaces", lambda: "this host forbids new namespaces")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    bubblewrap.problem.cache_clear()
    try:
        with pytest.raises(MissingToolError, match=r"installed but fails \(bwrap: No permissions to create a new namespace\)"):
            choose_level("x", trusted=False, unsafe=False)
    finally:
        bubblewrap.problem.cache_clear()


def test_a_killed_host_leaves_nothing_behind(level: str) -> None:
    """Not even a call in an endless loop, which reads no more from its host."""
    program = (
        "from pinetune.sandbox.levels import LEVELS\nfrom pinetune.sandbox.pool import WarmPool\n"
        f"pool = WarmPool('def grade(sample, item):\\n    while True: pass', LEVELS[{level!r}])\n"
        "pool.warm()\nprint(pool._idle[0]._process.pid, flush=True)\npool.call({}, {})"
    )
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    with host, host.stdout:
        host.stdout.readline()
        time.sleep(0.2)  # most often the call is running by now; before it, the test is weaker but still true
        started = _descendants(host.pid)
        host.kill()
    assert len(started) >= (1 if level == "trusted" else 2)  # the worker; confined also bwrap or the launcher
    _assert_gone(started)


def test_nothing_stays_after_close(level: str) -> None:
    source = "import subprocess\nsubprocess.Popen(['sleep', '600'])\ndef grade(sample, item): return 1.0"
    pool = WarmPool(source, LEVELS[level], QUICK)
    assert pool.warm() is None
    process = pool._idle[0]._process
    started = {process.pid: _birth(process.pid)} | _descendants(process.pid)
    assert len(started) >= 2
    pool.close()
    assert process.returncode is not None
    _assert_gone(started)


def _assert_gone(started: dict[int, str]) -> None:
    """The kernel takes a moment to end a process namespace."""
    deadline = time.monotonic() + 10
    while (left := {pid for pid, birth in started.items() if birth and _birth(pid) == birth}) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == set()


def _descendants(root: int) -> dict[int, str]:
    """Processes below `root`, each with its time of birth: a number may be given out again."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if fields := _stat(int(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = {}, [root]
    while todo:
        below = children.get(todo.pop(), [])
        found.update({pid: _birth(pid) for pid in below})
        todo += below
    return found


def _birth(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the program's name: state, parent, ..., time of birth (index 19)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []

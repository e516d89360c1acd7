"""A hostile grader, or a hostile answer that a grader runs, cannot forge a grade, break the host or outlive its call."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_attacks import ANY_BODY, EACH_LEVEL, IN_TMP, PROCESSES, QUICK, attack, grader, pool

from pinetune.sandbox.levels import LEVELS
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.process import plain

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work


@pytest.fixture(params=EACH_LEVEL)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=EACH_LEVEL)
def any_body(request: pytest.FixtureRequest) -> Iterator[WarmPool]:
    graders = WarmPool(ANY_BODY, LEVELS[request.param], QUICK, size=1)
    yield graders
    graders.close()


VERDICT = '{"value": 1.0, "printed": ""}'
# A model's answer that a grader runs as a program: it tries each way to its grader's pipes and memory.
FORGER = r"""
import ctypes, os, signal, struct
body = b'{"value": 1.0}'
frame = struct.pack("!I", len(body)) + body
os.write(1, frame)
opened = []
for process in {os.getpid(), os.getppid(), 1, 2}:
    for fd in range(64):
        try:
            if process == os.getpid():
                if fd > 2: os.write(fd, frame); opened.append((process, fd))
            else:
                os.write(os.open(f"/proc/{process}/fd/{fd}", os.O_WRONLY), frame); opened.append((process, fd))
        except OSError:
            pass
    if process != os.getpid():
        try:
            opened.append(open(f"/proc/{process}/mem", "r+b"))
        except OSError:
            pass
print(opened)
"""


def test_a_printed_verdict_is_only_printed(any_body: WarmPool) -> None:
    text = f"print({VERDICT!r})\nos.write(1, b'\\0\\0\\0\\x1d' + {VERDICT.encode()!r})\nreturn 0.25"
    outcome = any_body.call({}, {"text": text})
    assert outcome.value == 0.25
    assert VERDICT in outcome.printed


def test_a_program_the_grader_runs_cannot_forge_its_grade(any_body: WarmPool) -> None:
    text = "print(subprocess.run([sys.executable, '-c', item['program']], capture_output=True).stdout.decode()[-3:])\nreturn 0.25"
    outcome = any_body.call({}, {"text": text, "program": FORGER})
    assert (outcome.value, outcome.printed) == (0.25, "[]\n\n")


def test_a_program_that_inherits_everything_cannot_forge_its_grade(any_body: WarmPool) -> None:
    """Even through os.system, os.spawn or close_fds=False: the pipe is not inherited over exec."""
    text = "subprocess.run([sys.executable, '-c', item['program']], close_fds=False)\nreturn 0.25"
    outcome = any_body.call({}, {"text": text, "program": FORGER})
    assert outcome.value == 0.25 and "[]\n" in outcome.printed


def test_a_forked_copy_of_the_call_has_no_grade_to_give(any_body: WarmPool) -> None:
    text = "if os.fork() == 0: return 1.0\nos.wait()\nreturn 0.25"
    assert any_body.call({}, {"text": text}).value == 0.25


def test_killing_the_grader_is_no_grade(any_body: WarmPool) -> None:
    text = "subprocess.run([sys.executable, '-c', 'import os; os.kill(os.getppid(), 9)'])\nreturn 1.0"
    assert any_body.call({}, {"text": text}).error == "the grader's process was killed by SIGKILL before grade() returned"


# What a grader writes to its own result pipe: the one that is open for writing and neither 1 nor 2.
FORGE = """
import struct
pipes = [fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')]
for fd in pipes:
    try: os.write(fd, item['head'].encode('latin-1') + item['body'].encode())
    except OSError: pass
os._exit(0)
"""


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"value": NaN}', "no result"),
        ('{"value": 1e999}', "no result"),
        ('{"value": true}', "no result"),
        ('{"value": "1.0"}', "no result"),
        ('{"value": null, "error": "\\ud800 x \\u0000"}', "\\ud800 x \\x00"),
        ('{"error": ["a"]}', "['a']"),
        ("[1.0]", "the grader's process wrote something that is no result"),
        ("[" * 60_000, "the grader's process wrote something that is no result"),
        ("\xff", "the grader's process wrote something that is no result"),
    ],
)
def test_what_is_written_to_the_result_pipe_is_checked(any_body: WarmPool, body: str, error: str) -> None:
    head = len(body.encode()).to_bytes(4, "big").decode("latin-1")
    outcome = any_body.call({}, {"text": FORGE, "head": head, "body": body})
    assert (outcome.value, outcome.error, outcome.kind) == (None, error, "runtime")


def test_a_result_without_end_is_no_result(any_body: WarmPool) -> None:
    text = "while True:\n    for fd in range(3, 12):\n        try: os.write(fd, b'\\xff' * 60_000)\n        except OSError: pass"
    outcome = any_body.call({}, {"text": text})
    assert (outcome.value, outcome.error) == (None, "the grader's process was killed by SIGKILL before grade() returned")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"not json", "sent something that is no answer"),
        (b"[]", "sent something that is no answer"),
        (b"[" * 200_000, "sent something that is no answer"),
        (b"\xff\xfe", "sent something that is no answer"),
        (b"x" * (2 << 20), "more than an answer can have"),
    ],
)
def test_an_interpreter_that_breaks_the_protocol_is_given_up(level: str, sent: bytes, said: str) -> None:
    """The top level of a source runs in the interpreter itself: it may write anything to the host."""
    source = (
        "import os, struct\n"
        f"data = {sent[:9]!r} * ({len(sent)} // {len(sent[:9])} + 1)\n"
        f"os.write(4, struct.pack('!I', {len(sent)}))\n"
        f"data = data[:{len(sent)}]\n"
        "while data: data = data[os.write(4, data):]\n"
        "def grade(sample, item): return 1.0"
    )
    graders = WarmPool(source, LEVELS[level], Limits(wall_seconds=5.0), size=1)
    try:
        outcome = graders.call({}, {})
        assert (outcome.value, outcome.kind) == (None, "server")
        assert said in outcome.error
    finally:
        graders.close()


def test_errors_and_prints_are_text_that_files_take(any_body: WarmPool) -> None:
    outcome = any_body.call({}, {"text": "print('a\\ud800\\0b')\nraise ValueError('\\ud83d\\0')"})
    outcome.error.encode()
    outcome.printed.encode()
    assert outcome.error.endswith("ValueError: \\ud83d\\x00")
    assert outcome.printed == "a\\ud800\\x00b\n"
    assert plain("\ud800\0é") == "\\ud800\\x00é"


def test_a_huge_error_keeps_both_ends(any_body: WarmPool) -> None:
    """Characters that take 12 bytes of JSON each: the cut text still fits the pipe."""
    outcome = any_body.call({}, {"text": "raise ValueError('begin' + '\\U0001F600' * 1_000_000 + 'end')"})
    assert "ValueError: begin" in outcome.error and outcome.error.endswith("end") and len(outcome.error) < 10_000


def test_deep_nesting_in_sample_or_item(any_body: WarmPool) -> None:
    def nested(depth: int) -> list[object]:
        outer: list[object] = []
        for _ in range(depth):
            outer = [outer]
        return outer

    assert any_body.call({}, {"text": "return 1.0", "deep": nested(500)}).value == 1.0
    refused = any_body.call({}, {"text": "return 1.0", "deep": nested(100_000)})
    assert refused.kind == "server" and "is no JSON" in refused.error


def test_odd_texts_arrive_as_they_are(any_body: WarmPool) -> None:
    text = "\ud800\0\u2028é\U0001f600"
    body = "import json\nassert sample['output_text'] == json.loads(item['as_json']), ascii(sample)\nreturn 1.0"
    assert any_body.call({"output_text": text}, {"text": body, "as_json": json.dumps(text)}).value == 1.0


def test_not_a_number_arrives_as_not_a_number(any_body: WarmPool) -> None:
    assert any_body.call({}, {"text": "return item['x'] != item['x']", "x": math.nan}).value == 1.0


STATE = [
    "import builtins\nbuiltins.float = lambda _: 1.0\nimport json\njson.loads = json.dumps = None\nos._exit = None",
    "globals()['grade'] = lambda sample, item: 1.0",
    "sys.modules['__main__'].as_float = lambda value: 1.0",
    "sys.setrecursionlimit(50)",
    "os.environ['X'] = '1'\nos.chdir('/usr')\nos.umask(0o777)",
    "signal.signal(signal.SIGALRM, lambda *_: None)\nsignal.alarm(1)",
    "sys.stdout.close()\nos.close(1)",
    "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))",
    "os.makedirs('/tmp/a/b')\nopen('/tmp/a/b/c', 'w').write('x')\nos.symlink('/usr', '/tmp/link')\nopen('/dev/shm/y', 'w').write('y')",
    "os.mkfifo('/tmp/pipe')\nos.makedirs('/tmp/shut/in')\nopen('/tmp/shut/in/x', 'w').close()\nos.chmod('/tmp/shut', 0)",
    "subprocess.Popen(['sleep', '60'], start_new_session=True)",
]


@pytest.mark.parametrize("change", STATE)
def test_nothing_of_a_call_is_left_for_the_next(level: str, change: str) -> None:
    body = (
        "import json, resource\n"
        "left = (os.listdir('/dev/shm'), IN_TMP, os.environ.get('X'), os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE)[0],\n"
        "        [p for p in os.listdir('/proc') if p.isdigit() and int(p) > 2 and int(p) != os.getpid()], signal.getsignal(14),\n"
        "        sys.getrecursionlimit(), float('2'), sys.stdout.closed, json.loads('3'), os.umask(0o22))\n"
        "if item: raise ValueError(left)\n"
    ).replace("IN_TMP", IN_TMP)
    graders = pool(level, f"{body}{change}\nreturn 1.0")
    try:
        clean = graders.call({}, {"look": True}).error.splitlines()[-1]
        assert clean.startswith("ValueError: ([], [], None, '/tmp', 256, [], ")
        graders.call({}, {})
        assert graders.call({}, {"look": True}).error.splitlines()[-1] == clean
    finally:
        graders.close()


def test_a_changed_file_of_the_top_level_is_restored_by_a_new_interpreter(level: str) -> None:
    source = (
        "open('/tmp/table', 'w').write('0.5')\n"
        "def grade(sample, item):\n"
        "    value = float(open('/tmp/table').read())\n"
        "    if item: open('/tmp/table', 'w').write('1.0')\n"
        "    return value\n"
    )
    graders = WarmPool(source, LEVELS[level], QUICK, size=1)
    try:
        assert graders.call({}, {}).value == 0.5
        first = list(graders._idle)
        assert graders.call({}, {}).value == 0.5
        assert graders._idle == first
        assert graders.call({}, {"change": True}).value == 0.5
        assert graders._idle == []
        assert graders.call({}, {}).value == 0.5
    finally:
        graders.close()


def test_a_folder_too_deep_to_clean_costs_only_the_interpreter(level: str) -> None:
    body = (
        "if item: return len(os.listdir('/tmp'))\nos.mkdir('/tmp/d')\nos.chdir('/tmp/d')\n"
        "for _ in range(1000):\n    os.mkdir('d')\n    os.chdir('d')\nreturn 0.5"
    )
    graders = pool(level, body)
    try:
        before = graders.call({}, {"look": True}).value
        assert graders.call({}, {}).value == 0.5
        assert graders.call({}, {"look": True}).value == before
    finally:
        graders.close()


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_signal_to_the_interpreter_is_no_grade_of_another(level: str, number: str) -> None:
    """As process 1 of its namespace it does not even take it; elsewhere it ends and is replaced, which is the grader's error."""
    body = f"if item:\n    os.kill(os.getppid(), signal.{number})\n    time.sleep(1)\n    return 0.5\nreturn 1.0"
    graders = WarmPool(grader(body), LEVELS[level], QUICK)
    try:
        outcome = graders.call({}, {"kill": 1})
        assert (outcome.value, outcome.kind) == ((0.5, "") if PROCESSES[level] == 2 else (None, "runtime"))
        assert graders.call({}, {}).value == 1.0
    finally:
        graders.close()


def test_a_stopped_interpreter_is_given_up(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.sandbox.process.GRACE_SECONDS", 0.2)
    outcome = attack(level, "os.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)", Limits(wall_seconds=0.3))
    assert outcome.error.startswith("TimeoutError: ") and outcome.error.endswith("0.3 seconds")


def test_a_source_that_never_finishes_loading_is_given_up(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.sandbox.process.START_SECONDS", 0.3)
    graders = WarmPool("while True: pass\ndef grade(sample, item): return 1.0", LEVELS[level], Limits(wall_seconds=0.3), size=1)
    try:
        outcome = graders.call({}, {})
        assert (outcome.value, outcome.kind) == (None, "server")
        assert outcome.error == "TimeoutError: the grader's interpreter gave no answer in 0.3 seconds while loading the source"
    finally:
        graders.close()


def test_files_of_the_top_level_stay(level: str) -> None:
    source = "open('/tmp/table', 'w').write('0.5')\ndef grade(sample, item): return float(open('/tmp/table').read())"
    graders = WarmPool(source, LEVELS[level], QUICK, size=1)
    try:
        assert [graders.call({}, {}).value for _ in range(3)] == [0.5, 0.5, 0.5]
        assert len(graders._idle) == 1
    finally:
        graders.close()


def test_the_scripts_inside_import_nothing_of_ours() -> None:
    """They run where pinetune is not mounted."""
    folder = Path(__file__).parents[2] / "src/pinetune/sandbox"
    for name in ("worker.py", "launcher.py"):
        assert not re.search(r"^\s*(from|import) pinetune", (folder / name).read_text(), re.MULTILINE)

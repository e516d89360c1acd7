"""What a grader may take, each limit with an attack: time, memory, disk, processes, cores; and the whole tree ends."""

from __future__ import annotations

import os
import threading

import pytest
from sandbox_attacks import EACH_LEVEL, PROCESSES, attack, grader, pool

from pinetune.sandbox.levels import LEVELS
from pinetune.sandbox.limits import MEBIBYTE, Limits
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.process import Outcome

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

SHORT = Limits(wall_seconds=0.8)
COUNT = "len([p for p in os.listdir('/proc') if p.isdigit()])"


@pytest.fixture(params=EACH_LEVEL)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_defaults_are_the_hosted_products() -> None:
    limits = Limits()
    assert (limits.wall_seconds, limits.memory_bytes, limits.disk_bytes) == (120.0, 2 << 30, 1 << 30)


def test_a_fork_bomb_ends_with_its_call_and_spares_the_next(level: str) -> None:
    bomb = "if not item.get('bomb'): return 1.0\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    graders = pool(level, bomb, SHORT)
    try:
        assert graders.call({}, {}).value == 1.0
        worker = graders._idle[0]
        assert "TimeoutError" in graders.call({}, {"bomb": True}).error
        assert graders.call({}, {}).value == 1.0
        assert graders._idle == [worker]  # the interpreter stayed warm
    finally:
        graders.close()


def test_processes_are_counted(level: str) -> None:
    text = "count = 0\ntry:\n    while os.fork(): count += 1\n    time.sleep(60)\nexcept BlockingIOError:\n    return count"
    outcome = attack(level, text, Limits(wall_seconds=20.0, processes=20))
    assert outcome.value is not None and 10 <= outcome.value <= 20


def test_threads_are_counted_too(level: str) -> None:
    text = (
        "import threading\nthreads = 0\ntry:\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "        threads += 1\nexcept RuntimeError:\n    return threads"
    )
    outcome = attack(level, text, Limits(wall_seconds=20.0, processes=20))
    assert outcome.value is not None and 10 <= outcome.value <= 20


# Each way to leave the call's process group or to outlive it.
TREE = """
import threading
threading.Thread(target=time.sleep, args=(600,)).start()
subprocess.Popen(['sleep', '600'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(15, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
time.sleep(600)
"""


def test_a_timeout_ends_the_whole_tree(level: str) -> None:
    graders = pool(level, f"if item: return {COUNT}\n{TREE}", SHORT)
    try:
        assert graders.call({}, {}).error == "TimeoutError: no result after 0.8 seconds"
        assert graders.call({}, {"count": True}).value == PROCESSES[level]
    finally:
        graders.close()


def test_a_grandchild_left_behind_ends_with_its_call(level: str) -> None:
    body = f"if item: return {COUNT}\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nreturn 0.5"
    graders = pool(level, body)
    try:
        assert [graders.call({}, {}).value, graders.call({}, {"count": True}).value] == [0.5, PROCESSES[level]]
    finally:
        graders.close()


def test_one_process_cannot_take_more_memory_than_allowed(level: str) -> None:
    outcome = attack(level, "return len(bytearray(100 << 30))")
    assert (outcome.value, outcome.error.splitlines()[-1]) == (None, "MemoryError")


def test_the_memory_of_all_processes_together_is_bounded(level: str) -> None:
    """Each process stays under its own limit; ten of them would take 600 MB."""
    text = "for _ in range(10):\n    if os.fork() == 0:\n        data = b'x' * 60_000_000\n        time.sleep(60)\ntime.sleep(60)"
    outcome = attack(level, text, Limits(wall_seconds=20.0, memory_bytes=256 * MEBIBYTE))
    assert outcome.error == "MemoryError: its processes together used more than 256 MiB"


def test_shared_memory_is_bounded(level: str) -> None:
    text = "with open('/dev/shm/x', 'wb') as file:\n    for _ in range(200): file.write(b'x' * 1_000_000)"
    assert "No space left on device" in attack(level, text).error


def test_the_disk_is_bounded(level: str) -> None:
    text = "for i in range(100):\n    with open(f'/tmp/{i}', 'wb') as file: file.write(b'x' * 1_000_000)\nreturn 1.0"
    assert "No space left on device" in attack(level, text, Limits(wall_seconds=20.0, disk_bytes=8 * MEBIBYTE)).error


def test_a_full_disk_is_empty_for_the_next_call(level: str) -> None:
    text = "try: open('/tmp/x', 'wb').write(bytes(20 << 20))\nexcept OSError: return os.statvfs('/tmp').f_bavail"
    free = "if item: return os.statvfs('/tmp').f_bavail * os.statvfs('/tmp').f_frsize\n"
    graders = pool(level, free + text, Limits(disk_bytes=8 * MEBIBYTE))
    try:
        assert [graders.call({}, {}).value, graders.call({}, {"free": True}).value] == [0.0, 8.0 * MEBIBYTE]
    finally:
        graders.close()


def test_files_are_counted(level: str) -> None:
    text = "files = []\ntry:\n    while True: files.append(os.open('/dev/null', 0))\nexcept OSError:\n    return len(files)"
    outcome = attack(level, text, Limits(wall_seconds=20.0, open_files=64))
    assert outcome.value is not None and 40 <= outcome.value <= 64


def test_at_most_two_cores(level: str) -> None:
    outcome = attack(level, "return len(os.sched_getaffinity(0))")
    assert outcome.value == min(2, len(os.sched_getaffinity(0)))


def test_closing_ends_a_call_in_flight(level: str) -> None:
    graders = WarmPool(grader("time.sleep(600)"), LEVELS[level], Limits(), size=1)
    assert graders.warm() is None
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(graders.call({}, {})))
    thread.start()
    while not graders._busy:
        pass
    graders.close()
    thread.join(timeout=20)
    assert [outcome.error for outcome in outcomes] == ["the grader was closed"]

"""The warm pool under many threads: several interpreters up to the cap, none lost, none left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sandbox_attacks import EACH_LEVEL, grader

from pinetune.sandbox.levels import LEVELS
from pinetune.sandbox.limits import Limits
from pinetune.sandbox.pool import WarmPool

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work

QUICK = Limits(wall_seconds=20.0)


@pytest.fixture(params=[*EACH_LEVEL, "trusted"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def only_ours_remain() -> Iterator[None]:
    """After the test this process has no more descendants than before it."""
    before = descendants()
    yield
    deadline = time.monotonic() + 10
    while (left := descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel takes a moment to end a process namespace
    assert left == set()


def descendants() -> set[tuple[int, str]]:
    """Living processes below this one: (number, time of birth)."""
    parents: dict[int, tuple[int, str]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(name)] = (int(fields[1]), fields[19])
    found: set[tuple[int, str]] = set()
    todo = {os.getpid()}
    while todo:
        todo = {pid for pid, (parent, _) in parents.items() if parent in todo}
        found |= {(pid, parents[pid][1]) for pid in todo}
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.usefixtures("only_ours_remain")
def test_busy_threads_get_an_interpreter_each_up_to_the_cap(level: str) -> None:
    pool = WarmPool(grader("time.sleep(600)"), LEVELS[level], Limits(), size=2)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(pool.call, {}, {}) for _ in range(4)]
        until(lambda: len(pool._busy) == 2)
        assert not any(call.done() for call in calls)
        assert len({worker._process.pid for worker in pool._busy}) == 2
        pool.close()
        assert [call.result(timeout=20).error for call in calls] == ["the grader was closed"] * 4


@pytest.mark.usefixtures("only_ours_remain")
def test_many_threads_with_failing_calls_all_get_their_own_answer(level: str) -> None:
    body = (
        "if item['i'] % 7 == 3: os.kill(os.getppid(), 9)\nif item['i'] % 5 == 2: os._exit(3)\n"
        "if item['i'] % 3 == 1: raise ValueError(item['i'])\nreturn item['i']"
    )
    pool = WarmPool(grader(body), LEVELS[level], QUICK, size=3)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda i: pool.call({}, {"i": i}), range(40)))
    for i, outcome in enumerate(outcomes):
        if i % 7 == 3:  # the signal races with what the call does next
            assert outcome.value in (None, float(i))
        elif i % 5 == 2:
            assert outcome.error == "the grader's process exited with code 3 before grade() returned"
        elif i % 3 == 1:
            assert outcome.error.endswith(f"ValueError: {i}")
        else:
            assert outcome.value == float(i)
    assert pool.call({}, {"i": 0}).value == 0.0
    assert 1 <= len(pool._idle) <= 3 and not pool._busy
    pool.close()


@pytest.mark.usefixtures("only_ours_remain")
def test_closing_twice_and_before_the_first_call() -> None:
    pool = WarmPool(grader("return 1.0"), LEVELS["trusted"], QUICK)
    pool.close()
    pool.close()
    assert (pool.call({}, {}).error, pool.call({}, {}).kind) == ("the grader was closed", "server")


@pytest.mark.usefixtures("only_ours_remain")
def test_pools_do_not_share_interpreters(level: str) -> None:
    first, second = (WarmPool(f"def grade(sample, item): return {value}", LEVELS[level], QUICK, size=1) for value in (0.25, 0.5))
    assert [first.call({}, {}).value, second.call({}, {}).value] == [0.25, 0.5]
    first.close()
    assert second.call({}, {}).value == 0.5
    second.close()


@pytest.mark.usefixtures("only_ours_remain")
def test_a_source_that_cannot_load_starts_no_second_interpreter(level: str) -> None:
    pool = WarmPool("1 / 0\ndef grade(sample, item): return 1.0", LEVELS[level], QUICK, size=2)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: pool.call({}, {}), range(8)))
    assert all(outcome.error.endswith("ZeroDivisionError: division by zero") and outcome.kind == "runtime" for outcome in outcomes)
    assert not pool._idle and not pool._busy
    pool.close()


@pytest.mark.usefixtures("only_ours_remain")
def test_the_thread_that_first_called_may_end(level: str) -> None:
    pool = WarmPool(grader("return os.getppid()"), LEVELS[level], QUICK, size=1)
    values: list[float | None] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: values.append(pool.call({}, {}).value))
        thread.start()
        thread.join(timeout=20)
    assert values[0] is not None and values[0] == values[1]
    pool.close()

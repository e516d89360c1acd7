"""The supervisor of `pinetune serve`, with small real processes."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pinetune.cli.serve import _listen
from pinetune.cli.supervisor import Program, Supervisor
from pinetune.errors import UserError

pytestmark = pytest.mark.slow  # seconds in all, of waiting or of work


def wait_until(look: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not look():
        assert time.monotonic() < until
        time.sleep(0.02)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_what_dies_is_mourned_and_started_again(tmp_path: Path) -> None:
    lives, deaths = tmp_path / "lives", []
    program = Program(
        "short", python(f"import os; open({str(lives)!r}, 'a').write(os.environ['WHO'])"), {"WHO": "x"}, lambda: deaths.append(1)
    )
    supervisor = Supervisor([program])
    supervisor.start()
    wait_until(lambda: lives.exists() and lives.read_text() == "xxx")
    assert len(deaths) >= 2
    assert program.wait >= 2.0  # 0.5, 1, 2: more patient each time
    supervisor.stop(10)


def test_an_end_is_polite_first(tmp_path: Path) -> None:
    said = tmp_path / "said"
    polite = f"""
import signal, sys, time
def end(*_):
    open({str(said)!r}, "w").write("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(60)
"""
    deaf = (
        f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(tmp_path / 'deaf')!r}, 'w').close(); time.sleep(60)"
    )
    supervisor = Supervisor([Program("polite", python(polite), {}), Program("deaf", python(deaf), {})])
    supervisor.start()
    wait_until(lambda: (tmp_path / "ready").exists() and (tmp_path / "deaf").exists())
    supervisor.stop(8)
    assert said.read_text() == "bye"
    assert [program.process.returncode for program in supervisor.programs if program.process] == [0, -9]


def test_a_busy_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy, pytest.raises(UserError, match=r"cannot listen on 127.0.0.1:\d+ .*--port"):
        _listen("127.0.0.1", busy.getsockname()[1])

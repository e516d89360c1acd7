"""Files that several processes open at the same moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pinetune.runs.wal import enter_wal

OPENER = """
import sqlite3, sys, time
from pathlib import Path
from pinetune.runs.wal import enter_wal
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    connection = sqlite3.connect(Path(sys.argv[1]) / f"{n}.sqlite", timeout=30, isolation_level=None)
    enter_wal(connection, 30)
    connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
"""


def test_processes_open_new_files_at_once(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OPENER, str(tmp_path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    openers = [start() for _ in range(4)]
    for opener in openers:
        assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    assert [opener.communicate(timeout=120)[1] for opener in openers] == [""] * 4
    for n in range(40):
        with closing(sqlite3.connect(tmp_path / f"{n}.sqlite")) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (4,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_stays_locked_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder, closing(sqlite3.connect(path, timeout=0)) as other:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            enter_wal(other, 0.05)
        holder.execute("ROLLBACK")
        enter_wal(other, 0.05)


def test_a_file_that_is_no_database_is_an_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError, match="not a database"):
        enter_wal(connection, 60)

"""A SQLite file that several processes open at the same moment, in write-ahead mode.

SQLite's own busy timeout does not cover the switch to write-ahead mode: a process that has read the header and wants the
exclusive lock while another does the same is told "database is locked" at once, as waiting could last for ever. Trying
again from the beginning is what is left.
"""

from __future__ import annotations

import random
import sqlite3
import time

PAUSE_SECONDS = 0.01


def enter_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch the connection's file to write-ahead mode, or find it there. Raises sqlite3.OperationalError if it stays locked."""
    give_up = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not locked or time.monotonic() > give_up:
                raise
            time.sleep(PAUSE_SECONDS * (0.5 + random.random()))

"""Answers that were paid for, in one SQLite file that several processes may share: a repeated run asks nobody twice."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

from pinetune.errors import UserError
from pinetune.runs.wal import enter_wal

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, made TEXT DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"
)
BUSY_SECONDS = 30.0

logger = logging.getLogger("pinetune.judges")


def open_database(path: Path | None, schema: str) -> sqlite3.Connection:
    """A connection for use by many threads under a lock, in autocommit; None = in memory. Raises UserError naming the file."""
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            enter_wal(connection, BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(schema)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"{path}: cannot be used to keep judges' answers ({error}); name another file in PINETUNE_JUDGE_CACHE") from None
    return connection


class AnswerCache:
    """JSON values by key. A file that fails later costs money, not the job: it is reported once and asked no more."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = open_database(path, SCHEMA)
        self._works = True

    def get(self, key: str) -> Any:
        """The value, or None."""
        row = self._execute("SELECT answer FROM answers WHERE key = ?", (key,))
        return None if row is None else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        self._execute("INSERT OR IGNORE INTO answers (key, answer) VALUES (?, ?)", (key, json.dumps(value)))

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._works = False

    def _execute(self, sql: str, values: tuple[str, ...]) -> Any:
        with self._lock:
            if not self._works:
                return None
            try:
                return self._connection.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                self._works = False
                logger.warning("%s: judges' answers are no longer kept (%s)", self._path, error)
                return None

"""The connection: transactions that happen or do not, and the driver's faults in plain words.

SQLite runs in WAL mode with full syncs (an acknowledged row survives a power cut), foreign keys on, and every write
begins with BEGIN IMMEDIATE: a transaction that reads first and writes later would otherwise fail at once, without
waiting, when another process wrote in between.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, Engine, Executable, Row, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pinetune.errors import StoreBusy, StoreError, StoreFull
from pinetune.runs.files import finite
from pinetune.runs.wal import enter_wal

T = TypeVar("T")
READS = {"pinetune_reads": True}
UNUSABLE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """A database and a clock. Threads share it; a forked process opens its own."""

    def __init__(self, url: str, busy_seconds: float = 10.0, now: Callable[[], float] = time.time) -> None:
        self.now = now
        self.busy_seconds = busy_seconds
        self.engine = _engine(url, busy_seconds)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block and rolled back by any exception."""
        with self._plainly(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read from; in SQLite it neither waits for writers nor holds them up."""
        with self._plainly(), self.engine.connect().execution_options(**READS) as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreBusy(f"The database has no free connection ({error}); try again") from error
        except DBAPIError as error:
            raise self._plain(error) from error

    def _plain(self, error: DBAPIError) -> Exception:
        cause = error.orig
        if isinstance(cause, sqlite3.Error):
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return StoreBusy(f"The database is locked by another process for over {self.busy_seconds:g} s; try again")
            if code == sqlite3.SQLITE_FULL:
                return StoreFull("The disk that holds the database is full; nothing was stored. Free some space and try again")
            if code in UNUSABLE:
                return StoreError(f"The database file cannot be used ({cause}); nothing was stored. Check its disk and its permissions")
        elif isinstance(error, OperationalError | InterfaceError):
            state = getattr(cause, "sqlstate", None)
            if state in ("55P03", "40P01", "40001"):  # lock not available, deadlock, serialization
                return StoreBusy(f"The database is busy ({cause}); try again")
            if state == "53100":
                return StoreFull("The disk that holds the database is full; nothing was stored. Free some space and try again")
            said = " ".join(str(cause).split())
            return StoreError(f"The database does not answer ({said}); check PINETUNE_DATABASE_URL and that its server runs")
        return error


def _engine(url: str, busy_seconds: float) -> Engine:
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    sqlite = url.startswith("sqlite")
    wait = {"timeout": busy_seconds, "check_same_thread": False} if sqlite else {"connect_timeout": 10}
    engine = create_engine(
        url, connect_args=wait, json_serializer=_dump, pool_size=10, max_overflow=30, pool_timeout=30, pool_pre_ping=not sqlite
    )
    if sqlite:
        event.listen(engine, "connect", lambda raw, _: _prepare_sqlite(raw, busy_seconds))
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", lambda raw, _: _prepare_postgres(raw, busy_seconds))
    return engine


def _prepare_sqlite(raw: sqlite3.Connection, busy_seconds: float) -> None:
    raw.isolation_level = None  # Python's driver would begin transactions by itself, too late; we say BEGIN ourselves
    enter_wal(raw, busy_seconds)
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("pinetune_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _prepare_postgres(raw: Any, busy_seconds: float) -> None:
    with raw.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {int(busy_seconds * 1000)}")
    raw.commit()


def _dump(value: Any) -> str:
    """JSON without NaN and infinities, which PostgreSQL refuses and other readers stop at."""
    return json.dumps(finite(value), separators=(",", ":"))


def as_row(kind: type[T], row: Row[Any]) -> T:
    """A database row as the frozen dataclass `kind`: the columns its fields name."""
    return kind(**{field.name: row._mapping[field.name] for field in fields(cast(Any, kind))})


def count(connection: Connection, statement: Executable) -> int:
    """Run an UPDATE or DELETE; how many rows it touched."""
    return cast("CursorResult[Any]", connection.execute(statement)).rowcount

"""The two databases: how each is opened, told the time, and numbered.

Everything else of storage is written once, against SQLAlchemy's Core and the DB-API.
"""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage import whole_schema

# The log file of SQLite is written round and round within this size; it grows beyond it only
# while a reader holds an old snapshot.
_WAL_BYTES = 8 * 1024 * 1024
_PAGE_BYTES = 4096
_CACHE_KIB = 64 * 1024
_MMAP_BYTES = 1 << 30
_BUSY_MS = 5_000
# A sidecar that was frozen in the middle of a group holds its apps' rows no longer than this.
_IDLE_MS = 15_000
# Numbers that one group reserves ahead at the most.
_AHEAD = 1_024
# What the sidecars of one PostgreSQL database lock while one of them migrates it, and how long
# the others wait.
_MIGRATION_LOCK = 0x63617073756C65  # "capsule"
_MIGRATION_MS = 60_000

# In place of an app's number: whatever it writes may concern any app.
EVERY_APP = -1


class Database(ABC):
    """One database, as the writer and the readers open it."""

    name: str
    placeholder: str
    # Only this process writes: what the writer has read stays true from one group to the next.
    exclusive: bool

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = self._engine()

    @abstractmethod
    def _engine(self) -> Engine: ...

    @abstractmethod
    def begin_migration(self, connection: Connection) -> None:
        """Begin a transaction that changes the schema, when nobody else does."""

    @abstractmethod
    def begin(self, cursor: Any, apps: list[int]) -> None:
        """Begin a writing transaction and lock the counter rows of the apps, in id order."""

    def roll_back(self, cursor: Any) -> None:
        """Undo the transaction, if one is open."""
        cursor.execute("ROLLBACK")

    @abstractmethod
    def now_ms(self, cursor: Any) -> int:
        """Return the database's time in milliseconds since the Unix epoch."""

    @abstractmethod
    def numbers(self, cursor: Any, table: str, column: str, count: int) -> Sequence[int]:
        """Reserve `count` numbers, each greater than the one before; none is ever used again."""

    @abstractmethod
    def advance(self, cursor: Any, positions: Mapping[int, int]) -> None:
        """Note the newest position of each app that was appended to."""

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Make the writer's connection ready, once."""

    @abstractmethod
    def maintain(self, cursor: Any, *, idle: bool) -> None:
        """Do what the writer owes the database between two groups."""

    @abstractmethod
    def refused(self, error: BaseException) -> bool:
        """Tell whether an error is a value's that the database cannot hold."""

    @abstractmethod
    def failed(self, error: BaseException) -> bool:
        """Tell whether an error is the database's (full, locked, away), not the statement's."""

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _lower(text: str | None) -> str | None:
    return text.lower() if text is not None else None


class SQLite(Database):
    """The embedded default: a file in the home, one writer, WAL.

    Args:
        path: The database's file.
    """

    name = "sqlite"
    placeholder = "?"
    exclusive = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next: dict[str, int] = {}
        self._mark = 0.0
        super().__init__(f"sqlite:///{path}")

    def _engine(self) -> Engine:
        # Transactions are begun by hand: readers get a snapshot by BEGIN, the writer BEGIN
        # IMMEDIATE.
        engine = create_engine(
            self.url,
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
            connect_args={"check_same_thread": False, "cached_statements": 256},
        )

        @event.listens_for(engine, "connect")
        def _configure(connection: sqlite3.Connection, _: object) -> None:
            # SQLite's own lower() knows ASCII only.
            connection.create_function("lower", 1, _lower, deterministic=True)
            cursor = connection.cursor()
            for pragma in (
                f"busy_timeout = {_BUSY_MS}",
                "journal_mode = WAL",
                "synchronous = FULL",
                "wal_autocheckpoint = 0",
                f"cache_size = -{_CACHE_KIB}",
                f"mmap_size = {_MMAP_BYTES}",
                "temp_store = MEMORY",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        return engine

    def begin_migration(self, connection: Connection) -> None:
        """Begin as the only writer."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin(self, cursor: Any, apps: list[int]) -> None:
        """Begin; there is no other writer, so nothing needs a lock of its own."""
        cursor.execute("BEGIN IMMEDIATE")

    def roll_back(self, cursor: Any) -> None:
        """Undo the transaction. A full disk has ended it already, a lock never let it begin."""
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")

    def now_ms(self, cursor: Any) -> int:
        """Return this machine's time: it is the database's."""
        return time.time_ns() // 1_000_000

    def numbers(self, cursor: Any, table: str, column: str, count: int) -> Sequence[int]:
        """Reserve numbers from a counter in memory, begun at the greatest stored.

        It is not set back when a group fails: a number is not given twice.
        """
        first = self._next.get(table)
        if first is None:
            # Names of our own schema.
            row = cursor.execute(f'SELECT max("{column}") FROM "{table}"').fetchone()  # noqa: S608
            first = (row[0] or 0) + 1
        self._next[table] = first + count
        return range(first, first + count)

    def advance(self, cursor: Any, positions: Mapping[int, int]) -> None:
        """Nothing: with one writer the newest position of all is the newest of each."""

    def prepare(self, connection: Connection) -> None:
        """Grow the log file to its size once, so that a flush later need not grow it.

        A flush that changes a file's length costs the file system's journal as well: measured as
        half as long again.
        """
        cursor = connection.connection.cursor()
        try:
            wal = self.path.with_name(self.path.name + "-wal")
            if not wal.exists() or wal.stat().st_size < _WAL_BYTES // 2:
                cursor.execute("CREATE TABLE grow (filler BLOB)")
                cursor.execute("INSERT INTO grow VALUES (zeroblob(?))", (_WAL_BYTES // 2,))
                cursor.execute("DROP TABLE grow")
            cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        finally:
            cursor.close()

    def maintain(self, cursor: Any, *, idle: bool) -> None:
        """Move the log into the database, so that the next group begins it anew.

        At once when nothing waits; under load twice a second, which caps the log at what half a
        second can write.
        """
        now = time.monotonic()
        if now - self._mark >= (0.05 if idle else 0.5):
            self._mark = now
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def refused(self, error: BaseException) -> bool:
        """Nothing: it holds every text."""
        return False

    def failed(self, error: BaseException) -> bool:
        """Full, locked, read-only, broken: all come as OperationalError or a malformed database."""
        original = error.orig if isinstance(error, DBAPIError) else error
        return isinstance(original, sqlite3.OperationalError) or (
            isinstance(original, sqlite3.DatabaseError)
            and not isinstance(original, sqlite3.IntegrityError | sqlite3.ProgrammingError)
        )


class PostgreSQL(Database):
    """A server that several sidecars share.

    Args:
        url: An SQLAlchemy URL of the psycopg driver.
    """

    name = "postgresql"
    placeholder = "%s"
    exclusive = False

    def __init__(self, url: str) -> None:
        whole_schema.use_postgresql()
        # What this group has reserved, and how much it asked for last.
        self._reserved: dict[str, deque[int]] = {}
        self._asked: dict[str, int] = {}
        super().__init__(url)

    def _engine(self) -> Engine:
        url = make_url(self.url)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
            connect_args={
                "connect_timeout": 5,
                "application_name": "capsule-sidecar",
                "options": (
                    f"-c lock_timeout={_BUSY_MS} -c idle_in_transaction_session_timeout={_IDLE_MS}"
                ),
            },
        )

    def begin_migration(self, connection: Connection) -> None:
        """Begin, and wait for a sidecar that migrates already: afterwards nothing is left to do."""
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_MIGRATION_MS}")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))

    def begin(self, cursor: Any, apps: list[int]) -> None:
        """Begin, and take the apps' rows: sequences are not in commit order, these locks are."""
        # What the last group reserved and did not use would be out of order now.
        self._reserved.clear()
        self._asked.clear()
        cursor.execute("BEGIN")
        if EVERY_APP in apps:
            cursor.execute("SELECT id FROM apps ORDER BY id FOR UPDATE")
        elif apps:
            cursor.execute(
                "SELECT id FROM apps WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (sorted(apps),)
            )

    def now_ms(self, cursor: Any) -> int:
        """Return the server's time."""
        row = cursor.execute(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        ).fetchone()
        return int(row[0])

    def numbers(self, cursor: Any, table: str, column: str, count: int) -> Sequence[int]:
        """Reserve numbers from the table's sequence, whose holes do no harm.

        A group that asks again is given twice as many as before: a number each would be a round
        trip each.
        """
        reserved = self._reserved.setdefault(table, deque())
        if len(reserved) < count:
            ask = max(count - len(reserved), min(2 * self._asked.get(table, 0), _AHEAD))
            self._asked[table] = ask
            rows = cursor.execute(
                "SELECT nextval(%s::regclass) FROM generate_series(1, %s)",
                (f"{table}_numbers", ask),
            ).fetchall()
            reserved.extend(sorted(row[0] for row in rows))
        return [reserved.popleft() for _ in range(count)]

    def advance(self, cursor: Any, positions: Mapping[int, int]) -> None:
        """Write them down: no index finds an app's newest event, and another app's says nothing."""
        for app, position in positions.items():
            cursor.execute("UPDATE apps SET position = %s WHERE id = %s", (position, app))

    def prepare(self, connection: Connection) -> None:
        """Nothing: the migrations have made everything."""

    def maintain(self, cursor: Any, *, idle: bool) -> None:
        """Nothing: the server looks after itself."""

    def refused(self, error: BaseException) -> bool:
        """NUL, and what else the server's encoding has no place for."""
        import psycopg

        original = error.orig if isinstance(error, DBAPIError) else error
        return isinstance(original, psycopg.DataError)

    def failed(self, error: BaseException) -> bool:
        """Connection, resource and operator trouble; not integrity or syntax."""
        import psycopg

        original = error.orig if isinstance(error, DBAPIError) else error
        return isinstance(original, psycopg.OperationalError | psycopg.InterfaceError)


def open_database(url: str | None, path: Path) -> Database:
    """Open the database of a sidecar.

    Args:
        url: `postgresql://...`; None for SQLite at `path`.
        path: SQLite's file.

    Raises:
        StorageUnavailable: The URL is of another kind.
    """
    if url is None:
        return SQLite(path)
    if url.startswith("sqlite:///"):
        return SQLite(Path(url.removeprefix("sqlite:///")))
    if url.startswith("postgres"):
        return PostgreSQL(url)
    raise StorageUnavailable(f"storage {make_url(url).drivername!r} is not supported")

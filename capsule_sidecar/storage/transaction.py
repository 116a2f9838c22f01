"""The writer's transaction: what is held back until it is written, and statements that see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql import Select

from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.storage.counts import TaskCounts
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.rows import run
from capsule_sidecar.storage.tables import Pending, Tables


class Transaction:
    """A connection whose changes are collected and written together, a statement a table.

    Whatever reads or executes a statement writes first what was collected: the group sees its own
    changes.

    Args:
        database: Which database it is.
        connection: The writer's connection.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self.database = database
        self.connection = connection
        self.cursor = connection.connection.cursor()
        self.tables = Tables(database)
        self.task_counts = TaskCounts(connection, database.placeholder)
        self._written = 0
        self._clear()

    # -- what is held back -----------------------------------------------------------------------

    def _clear(self) -> None:
        self._pending = pending = Pending()
        self.items = pending.items
        self.requests = pending.requests
        self.chunks = pending.chunks
        self.data = pending.data
        self.new_users = pending.users

    @property
    def pending(self) -> bool:
        """Whether something is waiting to be written."""
        return bool(self._pending) or self.task_counts.pending

    def flush(self) -> None:
        """Write everything pending, inside the group's transaction."""
        self._pending.write(self.database, self.cursor, self.tables)
        self.task_counts.write(self.cursor)
        self._written += 1
        self._clear()

    def flush_if_pending(self) -> None:
        """Write what is pending, if anything is."""
        if self.pending:
            self.flush()

    @property
    def wrote(self) -> bool:
        """Whether the transaction holds anything to commit."""
        return self._written > 0

    # -- statements ------------------------------------------------------------------------------

    def query(self, statement: Select[Any]) -> list[Any]:
        """Read rows, after writing what is pending, so that the group sees its own changes."""
        self.flush_if_pending()
        return list(self.connection.execute(statement))

    def execute(self, statement: Any) -> None:
        """Execute a statement that changes many rows, after writing what is pending."""
        self.flush_if_pending()
        self.connection.execute(statement)
        self._written += 1

    def fetch(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Read rows by a statement's text, whose marks are `?`, after writing what is pending."""
        self.flush_if_pending()
        self.cursor.execute(self._marked(statement), values)
        return list(self.cursor.fetchall())

    def write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement's text, whose marks are `?`, for each row, after what is pending."""
        if rows:
            self.flush_if_pending()
            run(self.cursor, self._marked(statement), rows)
            self._written += 1

    def _marked(self, statement: str) -> str:
        mark = self.database.placeholder
        return statement if mark == "?" else statement.replace("?", mark)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Undo what is written inside, if it ends with an error: what refuses changes nothing."""
        self.flush_if_pending()
        self.cursor.execute("SAVEPOINT whole")
        try:
            yield
        except DomainError:
            self.cursor.execute("ROLLBACK TO SAVEPOINT whole")
            raise
        self.cursor.execute("RELEASE SAVEPOINT whole")

    def number(self, table: str, column: str = "id") -> int:
        """Reserve a row's number."""
        return self.database.numbers(self.cursor, table, column, 1)[0]

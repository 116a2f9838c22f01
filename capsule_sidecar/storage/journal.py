"""The one writer: operations in the order they were submitted, committed in groups.

`submit` is a plain function: the order of its calls is the order of their effects. Whatever is
waiting when the previous group has been committed makes the next one, so one flush serves many
callers and nobody lingers. How a group is run: `storage.groups`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from capsule_sidecar.model.errors import (
    DomainError,
    InvalidArgument,
    ShuttingDown,
    StorageUnavailable,
    TooManyWaiting,
)
from capsule_sidecar.model.types import DataPatch, Terms
from capsule_sidecar.storage.clock import Clock
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.groups import Group, Operation
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")
logger = logging.getLogger("capsule.journal")

# Operations of one group, and operations that may wait for the writer.
_GROUP = 512
_WAITING = 65_536


class Listener(Protocol):
    """Who is told what was committed, on the event loop, in the order of the operations."""

    def patched(self, session: int, patch: DataPatch) -> None:
        """The data of a session (its row's number) was changed."""

    def committed(
        self, appended: Sequence[Appended], leased: Sequence[Leased], notices: Sequence[Notice]
    ) -> None:
        """Events were appended; work was leased to a process of this sidecar, or taken from one."""


class Journal:
    """The database's writer and its readers, as the event loop sees them.

    Enter it with `async with`: the writer thread starts; leaving commits what waits and stops it.

    Args:
        database: An opened, migrated database.
        slots: The free places of this sidecar's processes.
        terms: The durations and limits that storage keeps.
        readers: Threads that read.
    """

    def __init__(self, database: Database, slots: Slots, terms: Terms, *, readers: int = 4) -> None:
        self.terms = terms
        self.database = database
        self.clock = Clock()
        self._slots = slots
        self._queue: queue.SimpleQueue[Operation[Any] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._listener: Listener | None = None
        self._readers = readers
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._healthy = True
        self._closed = True

    async def __aenter__(self) -> Journal:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(self._readers, "journal-reader")
        started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="journal-writer", daemon=True
        )
        self._thread.start()
        await started
        self._closed = False
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._connections:
            connection.close()
        self.database.close()

    def listen(self, listener: Listener) -> None:
        """Name who is told, on the loop, what each group did."""
        self._listener = listener

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write found the database in order."""
        return self._healthy

    def submit(
        self,
        app: int,
        work: Callable[[Unit], T],
        then: Callable[[T], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        """Have an operation run on the writer.

        Args:
            app: The app whose log it may append to; 0 for none, `database.EVERY_APP` for any.
            work: Runs on the writer thread. It validates, then changes; a DomainError it raises
                fails it alone.
            then: Called with the result on the loop, in its place among the events, when the
                group is committed.
            after: Called on the loop once it is over, however it ended.

        Returns:
            The result, once it is durable. The future fails with the DomainError, or with
            StorageUnavailable when nothing was written.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(ShuttingDown("the sidecar is shutting down"))
        elif self._waiting >= _WAITING:
            future.set_exception(
                TooManyWaiting("waiting_operations", _WAITING, "too many operations are waiting")
            )
        else:
            self._waiting += 1
            self._queue.put(Operation(app, work, then, after, future))
            return future
        if after is not None:
            after()
        return future

    def start(self, app: int, work: Callable[[Unit], object]) -> None:
        """Have an operation run that nobody waits for; what goes wrong with it is logged."""
        self.submit(app, work).add_done_callback(log_failure)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read on one of the reader threads, in a snapshot of its own.

        Args:
            work: Given a connection inside a reading transaction.

        Raises:
            StorageUnavailable: The database does not answer.
        """
        return await self._loop.run_in_executor(self._pool, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = self.database.engine.connect()
                self._local.connection = connection
                self._connections.append(connection)
            cursor = connection.connection.cursor()
            cursor.execute(
                "BEGIN" if self.database.exclusive else "BEGIN ISOLATION LEVEL REPEATABLE READ"
            )
            try:
                return work(connection)
            finally:
                cursor.execute("ROLLBACK")
                cursor.close()
        except DomainError:
            raise
        except Exception as error:
            if connection is not None and self.database.failed(error):
                self._local.connection = None
                connection.invalidate()
                connection.close()
                self._connections.remove(connection)
            if self.database.refused(error):
                raise InvalidArgument(
                    "request", "holds a character that storage cannot hold"
                ) from error
            if self.database.failed(error):
                logger.exception("a read failed")
                raise StorageUnavailable("storage does not answer") from error
            raise

    # -- the writer thread ---------------------------------------------------------------------

    def _run(self, started: asyncio.Future[None]) -> None:
        try:
            group = Group(self.database, self._slots, self.terms, self.clock)
        except BaseException as error:  # noqa: BLE001 - whoever started the journal gets it
            told = error
            if self.database.failed(error):
                told = StorageUnavailable(f"storage cannot be opened: {error}")
                told.__cause__ = error
            self._loop.call_soon_threadsafe(started.set_exception, told)
            return
        self._loop.call_soon_threadsafe(started.set_result, None)
        while True:
            operations, last = self._drain(group)
            if operations:
                self._run_group(group, operations)
                self._healthy = group.healthy
                self._tell(operations)
                if group.owes:  # behind the answers: they need not wait for it
                    group.maintain(idle=False)
            if last:
                group.close()
                return

    @staticmethod
    def _run_group(group: Group, operations: list[Operation[Any]]) -> None:
        try:
            group.run(operations)
        except Exception as error:
            # A defect must not end the writer: whoever waits now and later would wait for ever.
            logger.exception("a group could not be run")
            for operation in operations:
                operation.result, operation.error = None, error

    def _drain(self, group: Group) -> tuple[list[Operation[Any]], bool]:
        """Wait for an operation and take what else is there; look after the database when idle."""
        first = self._wait(group)
        operations: list[Operation[Any]] = []
        while first is not None:
            operations.append(first)
            if len(operations) >= _GROUP:
                return operations, False
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return operations, False
        return operations, True

    def _wait(self, group: Group) -> Operation[Any] | None:
        while True:
            try:
                return self._queue.get(timeout=0.1 if group.owes else None)
            except queue.Empty:
                group.maintain(idle=True)

    def _tell(self, operations: list[Operation[Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, operations)
        except RuntimeError:
            # The loop is closed: whoever waited is gone, and what was committed is committed.
            logger.warning("the loop ended before %d operations were answered", len(operations))

    def _settle(self, operations: list[Operation[Any]]) -> None:
        self._waiting -= len(operations)
        for operation in operations:
            error, future = operation.error, operation.future
            try:
                self._publish(operation)
            except Exception as defect:
                # Whoever waits for the other operations of the group must not wait for ever.
                logger.exception("what was committed could not be told")
                error = error or defect
            if future.done():
                pass  # a caller that was cancelled asks no more
            elif error is None:
                future.set_result(operation.result)
            else:
                future.set_exception(error)
                # Nobody may be left to ask for it; that is no defect of the loop.
                future.exception()
            if operation.after is not None:
                operation.after()

    def _publish(self, operation: Operation[Any]) -> None:
        listener = self._listener
        if listener is not None:
            for session, patch in operation.patched:
                listener.patched(session, patch)
            if operation.appended or operation.leased or operation.notices:
                listener.committed(operation.appended, operation.leased, operation.notices)
        if operation.error is None and operation.then is not None:
            operation.then(operation.result)


def log_failure(future: asyncio.Future[Any]) -> None:
    """Log what went wrong with an operation that nobody waits for."""
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.warning("an operation failed: %s", error)

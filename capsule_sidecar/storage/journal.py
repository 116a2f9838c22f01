"""The one writer: operations in the order they were submitted, committed in groups.

`submit` is a plain function: the order of its calls is the order of their effects. Whatever is
waiting when the previous group has been committed makes the next one, so one flush serves many
callers and nobody lingers. A group that fails is run again operation by operation.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

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
from capsule_sidecar.storage.database import EVERY_APP, Database
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")
logger = logging.getLogger("capsule.journal")

__all__ = ["EVERY_APP", "Journal", "Listener"]

# Operations of one group, and operations that may wait for the writer.
_GROUP = 512
_WAITING = 65_536


class Listener(Protocol):
    """Who is told what was committed, on the event loop, in the order of the operations."""

    def publish(self, appended: list[Appended]) -> None:
        """Events were appended."""

    def patched(self, session: int, patch: DataPatch) -> None:
        """The data of a session (its row's number) was changed."""

    def work(self, leased: list[Leased], notices: list[Notice]) -> None:
        """Work was leased to a process of this sidecar, or taken from one."""


class _Operation(Generic[T]):
    __slots__ = (
        "after",
        "app",
        "appended",
        "error",
        "future",
        "leased",
        "notices",
        "patched",
        "result",
        "then",
        "work",
    )

    def __init__(
        self,
        app: int,
        work: Callable[[Unit], T],
        then: Callable[[T], None] | None,
        after: Callable[[], None] | None,
        future: asyncio.Future[T],
    ) -> None:
        self.app = app
        self.after = after
        self.work = work
        self.then = then
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None
        self.appended: list[Appended] = []
        self.leased: list[Leased] = []
        self.notices: list[Notice] = []
        self.patched: list[tuple[int, DataPatch]] = []


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
        self._queue: queue.SimpleQueue[_Operation[Any] | None] = queue.SimpleQueue()
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
            app: The app whose log it may append to; 0 for none, EVERY_APP for any.
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
            self._queue.put(_Operation(app, work, then, after, future))
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
            group = _Group(self.database, self._slots, self.terms, self.clock)
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
            if last:
                group.close()
                return

    @staticmethod
    def _run_group(group: _Group, operations: list[_Operation[Any]]) -> None:
        try:
            group.run(operations)
        except Exception as error:
            # A defect must not end the writer: whoever waits now and later would wait for ever.
            logger.exception("a group could not be run")
            for operation in operations:
                operation.result, operation.error = None, error

    def _drain(self, group: _Group) -> tuple[list[_Operation[Any]], bool]:
        """Wait for an operation and take what else is there; look after the database when idle."""
        first = self._wait(group)
        operations: list[_Operation[Any]] = []
        while first is not None:
            operations.append(first)
            if len(operations) >= _GROUP:
                return operations, False
            try:
                first = self._queue.get_nowait()
            except queue.Empty:
                return operations, False
        return operations, True

    def _wait(self, group: _Group) -> _Operation[Any] | None:
        while True:
            try:
                return self._queue.get(timeout=0.1 if group.owes else None)
            except queue.Empty:
                group.maintain(idle=True)

    def _tell(self, operations: list[_Operation[Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle, operations)
        except RuntimeError:
            # The loop is closed: whoever waited is gone, and what was committed is committed.
            logger.warning("the loop ended before %d operations were answered", len(operations))

    def _settle(self, operations: list[_Operation[Any]]) -> None:
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

    def _publish(self, operation: _Operation[Any]) -> None:
        listener = self._listener
        if listener is not None:
            if operation.appended:
                listener.publish(operation.appended)
            for session, patch in operation.patched:
                listener.patched(session, patch)
            if operation.leased or operation.notices:
                listener.work(operation.leased, operation.notices)
        if operation.error is None and operation.then is not None:
            operation.then(operation.result)


class _Group:
    """The writer's connection and unit, and how a group is run on them."""

    def __init__(self, database: Database, slots: Slots, terms: Terms, clock: Clock) -> None:
        self.database = database
        self._clock = clock
        self.healthy = True
        self.owes = False
        self._slots = slots
        self._terms = terms
        self._connect()

    def _connect(self) -> None:
        connection = self.database.engine.connect()
        try:
            self.database.prepare(connection)
            unit = Unit(self.database, connection, self._slots, self._terms)
        except BaseException:
            connection.close()
            raise
        self._connection, self.unit = connection, unit

    def close(self) -> None:
        self.maintain(idle=True)
        self._connection.close()

    def maintain(self, *, idle: bool) -> None:
        """Let the database tidy up between groups."""
        if self._connection.closed:
            self.owes = False  # it is opened again with the next group
            return
        try:
            self.database.maintain(self.unit.cursor, idle=idle)
            self.owes = not idle
        except Exception as error:
            # Whatever it is, the writer goes on: without it every caller would wait for ever.
            if self.database.failed(error):
                logger.warning("storage could not be tidied: %s", type(error).__name__)
            else:
                logger.exception("storage could not be tidied")
            self.owes = False

    def run(self, operations: list[_Operation[Any]]) -> None:
        """Run operations as one transaction, or each as its own when that fails."""
        if self._attempt(operations, strict=False):
            return
        for operation in operations:
            operation.error = operation.result = None
            self._attempt([operation], strict=True)

    def _attempt(self, operations: list[_Operation[Any]], *, strict: bool) -> bool:
        """Run operations as one transaction; tell whether they have their results."""
        unit = self.unit
        failure: BaseException | None = None
        try:
            self._begin(operations, strict)
            for operation in operations:
                self._one(operation)
            unit.finish()
            unit.cursor.execute("COMMIT" if unit.wrote else "ROLLBACK")
        except Exception as error:  # noqa: BLE001 - a group's failure is told to its operations
            failure = error
        if failure is None:
            # Reading says nothing about a disk that is full.
            self.healthy = self.healthy or unit.wrote
            self.owes = self.owes or unit.wrote
            unit.trim()
            if not unit.database.exclusive:
                unit.forget()
            self.maintain(idle=False)
            return True
        self._abandon(operations)
        broken = self.database.failed(failure)
        if broken:
            self.healthy = False
        if strict or broken:
            self._fail(operations, failure, broken=broken)
            return True
        return False

    def _begin(self, operations: list[_Operation[Any]], strict: bool) -> None:
        unit = self.unit
        if self._connection.invalidated or self._connection.closed:
            self._connect()
            unit = self.unit
        unit.strict = strict
        self.database.begin(unit.cursor, sorted({o.app for o in operations if o.app}))
        unit.begin(self._clock.group_ms(self.database, unit.cursor))

    def _one(self, operation: _Operation[Any]) -> None:
        unit = self.unit
        appended, leased, notices = len(unit.appended), len(unit.leased), len(unit.notices)
        patched = len(unit.patched)
        try:
            operation.result = operation.work(unit)
        except DomainError as error:
            if len(unit.appended) != appended:
                # It changed something before it refused: that must not be committed with the rest.
                raise _LateRefusal(error) from error
            operation.error = error
        operation.appended = unit.appended[appended:]
        operation.leased = unit.leased[leased:]
        operation.notices = unit.notices[notices:]
        operation.patched = unit.patched[patched:]

    def _abandon(self, operations: list[_Operation[Any]]) -> None:
        """Undo a group: in the database, in the unit's memory and in the slots."""
        unit = self.unit
        unit.restore_places()
        for operation in operations:
            operation.appended, operation.leased, operation.notices = [], [], []
            operation.patched = []
        try:
            self.database.roll_back(unit.cursor)
        except Exception:  # noqa: BLE001 - a connection that cannot roll back is replaced
            self._replace()
        self.unit.forget()
        self.unit.begin(0)

    def _replace(self) -> None:
        try:
            self._connection.invalidate()
            self._connection.close()
            self._connect()
        except Exception as error:  # noqa: BLE001 - tried again with the next group
            logger.warning("storage cannot be reopened yet: %s", type(error).__name__)

    def _fail(
        self, operations: list[_Operation[Any]], failure: BaseException, *, broken: bool
    ) -> None:
        told: BaseException = failure
        if isinstance(failure, _LateRefusal):
            told = failure.refusal
        elif broken:
            logger.error("nothing was written: %s", failure)
            told = StorageUnavailable("storage does not answer or is full; nothing was written")
            told.__cause__ = failure
        elif self.database.refused(failure):
            told = InvalidArgument("request", "holds a character that storage cannot hold")
        for operation in operations:
            operation.result, operation.error = None, told


class _LateRefusal(Exception):
    def __init__(self, refusal: DomainError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def log_failure(future: asyncio.Future[Any]) -> None:
    """Log what went wrong with an operation that nobody waits for."""
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.warning("an operation failed: %s", error)

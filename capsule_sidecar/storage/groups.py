"""Groups: operations that are run on the writer thread as one transaction.

A group that fails is run again operation by operation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from capsule_sidecar.model.errors import DomainError, InvalidArgument, StorageUnavailable
from capsule_sidecar.model.types import DataPatch, Terms
from capsule_sidecar.storage.clock import Clock
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")
logger = logging.getLogger("capsule.journal")


class Operation(Generic[T]):
    """A function that runs on the writer thread, and what came of it.

    Its arguments are those of `Journal.submit`, and the future that this answers.
    """

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
        self.appended: Sequence[Appended] = ()
        self.leased: Sequence[Leased] = ()
        self.notices: Sequence[Notice] = ()
        self.patched: Sequence[tuple[int, DataPatch]] = ()


class Group:
    """The writer's connection and unit, and how a group is run on them.

    Args:
        database: Which database it is.
        slots: The free places of this sidecar's processes.
        terms: The durations and limits that storage keeps.
        clock: The time of each group.
    """

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
        """Let the database tidy up for the last time, and close the connection."""
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

    def run(self, operations: list[Operation[Any]]) -> None:
        """Run operations as one transaction, or each as its own when that fails."""
        if self._attempt(operations, strict=False):
            return
        for operation in operations:
            operation.error = operation.result = None
            self._attempt([operation], strict=True)

    def _attempt(self, operations: list[Operation[Any]], *, strict: bool) -> bool:
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
            return True
        self._abandon(operations)
        broken = self.database.failed(failure)
        if broken:
            self.healthy = False
        if strict or broken:
            self._fail(operations, failure, broken=broken)
            return True
        return False

    def _begin(self, operations: list[Operation[Any]], strict: bool) -> None:
        unit = self.unit
        if self._connection.invalidated or self._connection.closed:
            self._connect()
            unit = self.unit
        unit.strict = strict
        self.database.begin(unit.cursor, sorted({o.app for o in operations if o.app}))
        unit.begin(self._clock.group_ms(self.database, unit.cursor))

    def _one(self, operation: Operation[Any]) -> None:
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
        # Most operations do none of these.
        if len(unit.leased) != leased:
            operation.leased = unit.leased[leased:]
        if len(unit.notices) != notices:
            operation.notices = unit.notices[notices:]
        if len(unit.patched) != patched:
            operation.patched = unit.patched[patched:]

    def _abandon(self, operations: list[Operation[Any]]) -> None:
        """Undo a group: in the database, in the unit's memory and in the slots."""
        unit = self.unit
        unit.restore_places()
        for operation in operations:
            operation.appended = operation.leased = ()
            operation.notices = operation.patched = ()
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
        self, operations: list[Operation[Any]], failure: BaseException, *, broken: bool
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

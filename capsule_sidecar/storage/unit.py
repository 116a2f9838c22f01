"""The unit of work: what one group of writing operations reads, changes and appends.

Operations run on the writer thread, one after another, against one unit. They validate first and
change afterwards: an operation that raises a DomainError has changed nothing. What they change
is held here and written by `flush`, a statement a table for the whole group.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from sqlalchemy import Connection

from capsule_sidecar.model.types import DataPatch, Declarations, InvocationKind, Terms
from capsule_sidecar.storage import encoding
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.known_rows import KnownRows
from capsule_sidecar.storage.rows import InvocationRow, JobRow, ProcessRow, SessionRow, StreamRow
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.tables import AnyRow

_Row = TypeVar("_Row", SessionRow, InvocationRow, ProcessRow, StreamRow, JobRow)


class Unit(KnownRows):
    """A group's view of the database, and what it will write.

    Args:
        database: Which database it is.
        connection: The writer's connection.
        slots: The free places of this sidecar's processes.
        terms: The durations and limits to keep.
    """

    def __init__(
        self, database: Database, connection: Connection, slots: Slots, terms: Terms
    ) -> None:
        super().__init__(database, connection)
        self.terms = terms
        self.slots = slots
        # Check request ids before the work, not only by the table's key. See Journal.
        self.strict = False
        self.now_ms = 0
        self.time = b""
        self.begin(0)

    # -- a group's life --------------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """Start a group: nothing is pending, and the time is the database's."""
        self.put_to(now_ms)
        self.appended: list[Appended] = []
        self.leased: list[Leased] = []
        self.notices: list[Notice] = []
        self.patched: list[tuple[int, DataPatch]] = []
        # By process: places that this group took, less those it gave back.
        self._places: Counter[int] = Counter()
        self._entered: list[tuple[int, object]] = []
        self._written = 0
        self._clear()

    def put_to(self, now_ms: int) -> None:
        """Have what follows in the group happen at this time."""
        if now_ms != self.now_ms:
            self.now_ms = now_ms
            self.time = encoding.time_field(now_ms)

    def finish(self) -> None:
        """Write what is pending at a group's end: every position is known then."""
        self.flush_if_pending()
        for entry in self.leased:
            # The message that it is for was numbered after it was leased.
            entry.activity = entry.session.activity

    # -- changes ---------------------------------------------------------------------------------

    def add(self, row: _Row) -> _Row:
        """Add a new row."""
        self._pending.new[id(row)] = row
        match row:
            case SessionRow():
                self._remember_session(row)
            case InvocationRow():
                row.streams = {}
                self._remember_invocation(row)
                self.task_counts.follow(row)
            case ProcessRow():
                self._processes[row.id] = row
            case JobRow():
                self._jobs[row.invocation] = row
            case StreamRow():
                self._streams[row.key] = row
                invocation = self._invocations.get(row.invocation)
                if invocation is not None and invocation.streams is not None:
                    invocation.streams[row.key] = row
        return row

    def change(self, row: AnyRow) -> None:
        """Note that the row was changed."""
        if id(row) not in self._pending.new:
            self._pending.dirty[id(row)] = row
        if type(row) is InvocationRow:
            self.task_counts.follow(row)

    def close_stream(self, row: StreamRow) -> None:
        """Remove a stream that is complete or withdrawn, and its checkpoints."""
        self._streams.pop(row.key, None)
        self._pending.dirty.pop(id(row), None)
        invocation = self._invocations.get(row.invocation)
        if invocation is not None and invocation.streams is not None:
            invocation.streams.pop(row.key, None)
        if self._pending.new.pop(id(row), None) is None:
            self._pending.closed_streams.append((row.key,))
        else:
            self.chunks[:] = [chunk for chunk in self.chunks if chunk[0] != row.key]

    def append(
        self,
        session: SessionRow,
        body: bytes,
        *,
        place: int = 0,
        item: int = 0,
        invocation: InvocationRow | None = None,
        repeat: tuple[int, bytes] | None = None,
        own_place: bool = False,
        closes: str = "",
        asks: str = "",
        active: bool = False,
    ) -> int:
        """Append an event to a session's log.

        Args:
            session: The session.
            body: The encoded kind.
            place: Where its item sorts; 0 for none.
            item: The offset of the item's first event; 0 with a place means its own.
            invocation: What it belongs to.
            repeat: Method and digest by which a later attempt repeats it.
            own_place: The event causes an invocation: its place is its own offset.
            closes: The stream that ends with it.
            asks: The prompt that it opens or ends.
            active: The session moves up in its person's list, to where this event is.

        Returns:
            Its offset.
        """
        session.head = offset = session.head + 1
        if own_place:
            place = offset
        if place and not item:
            item = offset
        suffix = invocation.suffix if invocation is not None else b""
        entry = Appended(session, offset, place, item, suffix, body, self.time, closes, asks)
        self.appended.append(entry)
        if active:
            self._pending.active[session.id] = (session, offset)
        self._pending.events.append(
            (
                entry,
                (
                    invocation.id if invocation is not None else None,
                    repeat[0] if repeat else None,
                    repeat[1] if repeat else None,
                ),
            )
        )
        return offset

    def append_deletion(self, session: SessionRow, body: bytes) -> None:
        """Append the event that tells of a session's removal; it lies in no session's log."""
        entry = Appended(session, 0, 0, 0, b"", body, self.time)
        self.appended.append(entry)
        self._pending.events.append((entry, (None, None, None)))

    def put_item(
        self,
        session: SessionRow,
        place: int,
        offset: int,
        kind: int,
        event: int,
        block: str | None = None,
    ) -> None:
        """Make an item of the timeline, or let it show another event."""
        self.items[session.id, place, offset] = (session.id, place, offset, kind, event, block)

    def drop_item(self, session: SessionRow, place: int, offset: int) -> None:
        """Remove an item from the timeline."""
        self.items.pop((session.id, place, offset), None)
        self._pending.dropped_items.append((session.id, place, offset))

    # -- places ----------------------------------------------------------------------------------

    def enter_process(
        self, process: int, app: int, declarations: Declarations, free: int, owner: object
    ) -> None:
        """Enter a process with its number of free places, for its owner."""
        self.slots.attach(process, app, declarations, free, owner)
        self._entered.append((process, owner))

    def take_place(self, app: int, kind: InvocationKind, name: str) -> int:
        """Take a place for an invocation; return the process, or 0 where none has one."""
        process = self.slots.take(app, kind, name)
        if process:
            self._places[process] += 1
        return process

    def take_place_of(self, process: int) -> bool:
        """Take a place of a process; tell whether there was one."""
        taken = self.slots.take_of(process)
        self._places[process] += taken
        return taken

    def give_places(self, process: int, places: int = 1) -> None:
        """Give places back."""
        self.slots.give(process, places)
        self._places[process] -= places

    def restore_places(self) -> None:
        """Undo what the group did to the places: its work is not committed."""
        for process, places in self._places.items():
            self.slots.give(process, places)
        for process, owner in self._entered:
            self.slots.detach(process, owner)
        for app in self.slots.apps():
            # What was leased may be waiting again, whatever the group found.
            self.slots.expect(app)

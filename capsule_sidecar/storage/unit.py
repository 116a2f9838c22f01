"""The unit of work: what one group of writing operations reads, changes and appends.

Operations run on the writer thread, one after another, against one unit. They validate first and
change afterwards: an operation that raises a DomainError has changed nothing. What they change
is held here and written by `flush`, a statement a table for the whole group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, select
from sqlalchemy.sql import Select

from capsule_sidecar.model.errors import DomainError, NotFound
from capsule_sidecar.model.types import DataPatch, Declarations, InvocationKind, Terms
from capsule_sidecar.storage import encoding, schema
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.counts import TaskCounts
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.rows import (
    InvocationRow,
    JobRow,
    ProcessRow,
    SessionRow,
    StreamRow,
    run,
)
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.tables import AnyRow, Pending, Tables

__all__ = ["Appended", "Leased", "Notice", "Unit"]

_Row = TypeVar("_Row", SessionRow, InvocationRow, ProcessRow, StreamRow, JobRow)

# What the writer remembers from one group to the next, at the most, of each kind of row.
_REMEMBERED = 20_000


class Unit:
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
        self.terms = terms
        self.database = database
        self.connection = connection
        self.cursor = connection.connection.cursor()
        self.slots = slots
        self.tables = Tables(database)
        self.task_counts = TaskCounts(connection, database.placeholder)
        # Check request ids before the work, not only by the table's key. See Journal.
        self.strict = False
        self.now_ms = 0
        self.time = b""
        self.forget()
        self.begin(0)

    # -- a group's life ------------------------------------------------------------------

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

    def forget(self) -> None:
        """Forget what was read: the next operation reads it anew."""
        self._sessions: dict[int, SessionRow] = {}
        self._session_keys: dict[str, SessionRow] = {}
        self._invocations: dict[int, InvocationRow] = {}
        self._invocation_keys: dict[str, InvocationRow] = {}
        self._processes: dict[int, ProcessRow] = {}
        self._streams: dict[str, StreamRow] = {}
        self._jobs: dict[int, JobRow] = {}
        self._hidden: dict[int, SessionRow] = {}
        self.task_counts.forget()
        self._owners: dict[int, int] = {}
        self._identities: dict[int, str] = {}

    def trim(self) -> None:
        """Keep the memory of what was read within its size."""
        if (
            max(
                len(self._sessions),
                len(self._invocations),
                len(self._streams),
                len(self._jobs),
                len(self.task_counts),
                len(self._identities),
            )
            > _REMEMBERED
        ):
            self.forget()

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

    # -- rows ------------------------------------------------------------------------------

    def session(self, key: str, app: int) -> SessionRow:
        """Return an app's session.

        Raises:
            NotFound: There is none of this key in this app.
        """
        row = self._session_keys.get(key)
        if row is None:
            row = self._read_session(schema.sessions.c.key == key)
        if row is None or row.app != app:
            raise NotFound(f"session {key!r} does not exist", session_id=key)
        return row

    def session_by_id(self, number: int) -> SessionRow:
        """Return the session that another row refers to."""
        row = self._sessions.get(number)
        if row is None:
            row = self._read_session(schema.sessions.c.id == number)
        if row is None:
            raise NotFound("the session was deleted")
        return row

    def _read_session(self, where: Any) -> SessionRow | None:
        found = self.connection.execute(select(schema.sessions).where(where)).first()
        if found is None:
            return None
        row = SessionRow(*found)
        known = self._sessions.get(row.id)
        if known is not None:
            return known
        events = schema.events.c
        row.head = (
            self.connection.execute(
                select(events.offset)
                .where(events.session == row.id)
                .order_by(events.offset.desc())
                .limit(1)
            ).scalar()
            or 0
        )
        self._remember_session(row)
        return row

    def _remember_session(self, row: SessionRow) -> None:
        row.prefix = encoding.session_prefix(row.key)
        self._sessions[row.id] = row
        self._session_keys[row.key] = row

    def invocation(self, key: str, app: int) -> InvocationRow:
        """Return an app's invocation.

        Raises:
            NotFound: There is none of this key in this app.
        """
        row = self._invocation_keys.get(key)
        if row is None:
            found = self.query(select(schema.invocations).where(schema.invocations.c.key == key))
            row = self.known_invocation(found[0]) if found else None
        if row is None or row.app != app:
            raise NotFound(f"invocation {key!r} does not exist", invocation_id=key)
        return row

    def invocation_by_id(self, number: int) -> InvocationRow:
        """Return the invocation that another row refers to.

        Raises:
            NotFound: Its session was deleted.
        """
        row = self._invocations.get(number)
        if row is None:
            found = self.query(select(schema.invocations).where(schema.invocations.c.id == number))
            if not found:
                raise NotFound("the session was deleted")
            row = self.known_invocation(found[0])
        return row

    def known_invocation(self, columns: Any) -> InvocationRow:
        """Return the row in memory for columns just read."""
        row = self._invocations.get(columns[0])
        if row is None:
            row = InvocationRow(*columns)
            row.counted = row.waiting_task
            self._remember_invocation(row)
        return row

    def _remember_invocation(self, row: InvocationRow) -> None:
        row.suffix = encoding.invocation_suffix(row.key)
        self._invocations[row.id] = row
        self._invocation_keys[row.key] = row

    def process(self, number: int) -> ProcessRow | None:
        """Return a process that holds or held leases."""
        row = self._processes.get(number)
        if row is None:
            found = self.query(select(schema.processes).where(schema.processes.c.id == number))
            row = self.known_process(found[0]) if found else None
        return row

    def known_process(self, columns: Any) -> ProcessRow:
        """Return the row in memory for columns just read."""
        row = self._processes.get(columns[0])
        if row is None:
            row = ProcessRow(*columns)
            self._processes[row.id] = row
        return row

    def stream(self, key: str) -> StreamRow | None:
        """Return an open stream."""
        row = self._streams.get(key)
        if row is None:
            found = self.query(select(schema.streams).where(schema.streams.c.key == key))
            row = self.known_stream(found[0]) if found else None
        return row

    def known_stream(self, columns: Any) -> StreamRow:
        """Return the row in memory for columns just read."""
        row = self._streams.get(columns[0])
        if row is None:
            row = StreamRow(*columns)
            self._streams[row.key] = row
        return row

    def job(self, invocation: InvocationRow) -> JobRow:
        """Return what a task or a tick has beside its invocation."""
        row = self._jobs.get(invocation.id)
        if row is None:
            columns = schema.jobs.c
            found = self.query(select(schema.jobs).where(columns.invocation == invocation.id))
            row = self._jobs[invocation.id] = JobRow(*found[0])
        return row

    def hidden_session(self, app: int) -> SessionRow | None:
        """Return where an app works without a conversation; None where it never did."""
        row = self._hidden.get(app)
        if row is None:
            columns = schema.sessions.c
            row = self._read_session(
                and_(columns.user == 0, columns.app == app, columns.channel == "")
            )
            if row is not None:
                self._hidden[app] = row
        return row

    def owner(self, app: int) -> int:
        """Return the number of the user whose work without a session is; 0: nobody's."""
        owner = self._owners.get(app)
        if owner is None:
            found = self.query(select(schema.apps.c.owner).where(schema.apps.c.id == app))
            owner = self._owners[app] = int(found[0][0]) if found else 0
        return owner

    def streams_of(self, invocation: InvocationRow) -> list[StreamRow]:
        """Return the open streams of an invocation."""
        if invocation.streams is None:
            columns = schema.streams.c
            invocation.streams = {
                row.key: row
                for row in map(
                    self.known_stream,
                    self.query(select(schema.streams).where(columns.invocation == invocation.id)),
                )
            }
        return list(invocation.streams.values())

    def user_columns(self, number: int) -> tuple[str, str, str]:
        """Return a user's public id, e-mail address and organisation."""
        for row in self.new_users:
            if row[0] == number:
                return str(row[3]), str(row[4]), str(row[5])
        columns = schema.users.c
        found = self.query(
            select(columns.key, columns.email, columns.org).where(columns.id == number)
        )
        return tuple(found[0])

    def identity_of(self, number: int) -> str:
        """Return the channel identity of a user."""
        identity = self._identities.get(number)
        if identity is None:
            columns = schema.users.c
            identity = self.query(select(columns.identity).where(columns.id == number))[0][0]
            assert isinstance(identity, str)
            self._identities[number] = identity
        return identity

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

    # -- changes -----------------------------------------------------------------------------

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

    def drop_session(self, row: SessionRow) -> None:
        """Forget a session whose rows were removed, and everything of it."""
        self._sessions.pop(row.id, None)
        self._session_keys.pop(row.key, None)
        for invocation in [i for i in self._invocations.values() if i.session == row.id]:
            self._jobs.pop(invocation.id, None)
            del self._invocations[invocation.id]
            del self._invocation_keys[invocation.key]
        for stream in [s for s in self._streams.values() if s.session == row.id]:
            del self._streams[stream.key]

    def drop_process(self, row: ProcessRow) -> None:
        """Forget a process whose row was removed."""
        self._processes.pop(row.id, None)
        self._pending.dirty.pop(id(row), None)

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

    # -- places --------------------------------------------------------------------------------

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

    # -- writing --------------------------------------------------------------------------

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

    def finish(self) -> None:
        """Write what is pending at a group's end: every position is known then."""
        self.flush_if_pending()
        for entry in self.leased:
            # The message that it is for was numbered after it was leased.
            entry.activity = entry.session.activity

    @property
    def wrote(self) -> bool:
        """Whether the transaction holds anything to commit."""
        return self._written > 0

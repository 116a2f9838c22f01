"""Rows that the writer knows: read once, and remembered from one group to the next."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.storage import encoding, schema, work_schema
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.rows import InvocationRow, JobRow, ProcessRow, SessionRow, StreamRow
from capsule_sidecar.storage.transaction import Transaction

# What the writer remembers from one group to the next, at the most, of each kind of row.
_REMEMBERED = 20_000


class KnownRows(Transaction):
    """A transaction that has each row in memory once, by its number and by its key.

    What it hands out is the row itself, with what the group has changed of it.

    Args:
        database: Which database it is.
        connection: The writer's connection.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        super().__init__(database, connection)
        self.forget()

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

    # -- sessions --------------------------------------------------------------------------------

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

    # -- invocations, their jobs and their streams -----------------------------------------------

    def invocation(self, key: str, app: int) -> InvocationRow:
        """Return an app's invocation.

        Raises:
            NotFound: There is none of this key in this app.
        """
        row = self._invocation_keys.get(key)
        if row is None:
            found = self.query(
                select(work_schema.invocations).where(work_schema.invocations.c.key == key)
            )
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
            found = self.query(
                select(work_schema.invocations).where(work_schema.invocations.c.id == number)
            )
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

    def job(self, invocation: InvocationRow) -> JobRow:
        """Return what a task or a tick has beside its invocation."""
        row = self._jobs.get(invocation.id)
        if row is None:
            columns = work_schema.jobs.c
            found = self.query(select(work_schema.jobs).where(columns.invocation == invocation.id))
            row = self._jobs[invocation.id] = JobRow(*found[0])
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

    # -- processes -------------------------------------------------------------------------------

    def process(self, number: int) -> ProcessRow | None:
        """Return a process that holds or held leases."""
        row = self._processes.get(number)
        if row is None:
            found = self.query(
                select(work_schema.processes).where(work_schema.processes.c.id == number)
            )
            row = self.known_process(found[0]) if found else None
        return row

    def known_process(self, columns: Any) -> ProcessRow:
        """Return the row in memory for columns just read."""
        row = self._processes.get(columns[0])
        if row is None:
            row = ProcessRow(*columns)
            self._processes[row.id] = row
        return row

    def drop_process(self, row: ProcessRow) -> None:
        """Forget a process whose row was removed."""
        self._processes.pop(row.id, None)
        self._pending.dirty.pop(id(row), None)

    # -- people ----------------------------------------------------------------------------------

    def owner(self, app: int) -> int:
        """Return the number of the user whose work without a session is; 0: nobody's."""
        owner = self._owners.get(app)
        if owner is None:
            found = self.query(select(schema.apps.c.owner).where(schema.apps.c.id == app))
            owner = self._owners[app] = int(found[0][0]) if found else 0
        return owner

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

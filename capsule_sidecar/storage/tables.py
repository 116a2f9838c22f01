"""What a group will write, and the statements that write it: one a table for the whole group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from capsule_sidecar.storage import encoding, schema, work_schema
from capsule_sidecar.storage.commits import Appended
from capsule_sidecar.storage.database import Database
from capsule_sidecar.storage.rows import (
    InvocationRow,
    JobRow,
    ProcessRow,
    SessionRow,
    Statements,
    StreamRow,
    run,
)

AnyRow = SessionRow | InvocationRow | ProcessRow | StreamRow | JobRow

# Who wrote an event, and the method and digest that a later attempt would repeat it by.
Origin = tuple[int | None, int | None, bytes | None]


class Tables:
    """The statements of every table that the unit writes, made once for a database.

    Args:
        database: Which database it is.
    """

    def __init__(self, database: Database) -> None:
        mark = database.placeholder
        self.users = Statements(schema.users, mark)
        self.sessions = Statements(
            schema.sessions, mark, mutable=("title", "state", "lane", "waiting", "data_bytes")
        )
        self.activity = Statements(schema.sessions, mark, mutable=("activity",))
        self.events = Statements(schema.events, mark)
        self.items = Statements(schema.items, mark, mutable=("kind", "event"), replace=True)
        self.data = Statements(schema.session_data, mark, mutable=("value",), replace=True)
        self.invocations = Statements(
            work_schema.invocations,
            mark,
            mutable=(
                "state", "status", "attempt", "losses", "process", "cancel", "due_ms", "end_ms",
                "reason", "reference", "error_type", "prompts", "left_ms", "retried_as",
            ),
        )  # fmt: skip
        self.processes = Statements(work_schema.processes, mark, mutable=("beat_ms", "lease_ms"))
        self.streams = Statements(schema.streams, mark, mutable=("revision",))
        self.jobs = Statements(
            work_schema.jobs,
            mark,
            mutable=(
                "result", "progress", "progress_text", "start_ms", "failures", "lock", "cards",
                "card_ms", "stale", "behind",
            ),
        )  # fmt: skip
        self.chunks = Statements(schema.stream_chunks, mark)
        # Our own placeholder is all that is put in.
        self.chunks_of_stream = f"DELETE FROM stream_chunks WHERE stream = {mark}"  # noqa: S608
        self.requests = Statements(schema.requests, mark)


class Pending:
    """What is held in memory until it is written."""

    def __init__(self) -> None:
        self.events: list[tuple[Appended, Origin]] = []
        self.items: dict[tuple[int, int, int], tuple[object, ...]] = {}
        self.requests: dict[tuple[int, bytes], tuple[object, ...]] = {}
        self.chunks: list[tuple[object, ...]] = []
        self.data: dict[tuple[int, str], tuple[object, ...]] = {}
        self.users: list[tuple[object, ...]] = []
        # Rows by identity: what is new or changed is written as it is when it is written.
        self.new: dict[int, AnyRow] = {}
        self.dirty: dict[int, AnyRow] = {}
        # Sessions that move up in their lists, with the offset of the event that lets them.
        self.active: dict[int, tuple[SessionRow, int]] = {}
        self.closed_streams: list[tuple[str]] = []
        self.dropped_items: list[tuple[int, int, int]] = []

    def __bool__(self) -> bool:
        return bool(
            self.events or self.new or self.dirty or self.requests or self.items
            or self.chunks or self.data or self.users or self.closed_streams
            or self.dropped_items
        )  # fmt: skip

    def write(self, database: Database, cursor: Any, tables: Tables) -> None:
        """Write everything, inside the group's transaction.

        Args:
            database: Numbers the events.
            cursor: The writer's.
            tables: The statements.
        """
        run(cursor, tables.users.insert, self.users)
        self._write_events(database, cursor, tables)
        self._write_rows(cursor, tables)
        run(cursor, tables.items.delete, self.dropped_items)
        run(cursor, tables.items.insert, list(self.items.values()))
        run(cursor, tables.data.insert, list(self.data.values()))
        run(cursor, tables.requests.insert, list(self.requests.values()))
        run(cursor, tables.chunks.insert, self.chunks)
        run(cursor, tables.streams.delete, self.closed_streams)
        run(cursor, tables.chunks_of_stream, self.closed_streams)

    def _write_events(self, database: Database, cursor: Any, tables: Tables) -> None:
        if not self.events:
            return
        positions = database.numbers(cursor, "events", "position", len(self.events))
        newest: dict[int, int] = {}
        rows = []
        for position, (entry, (invocation, method, match)) in zip(
            positions, self.events, strict=True
        ):
            session = entry.session
            entry.position = position
            entry.data = encoding.event(
                session.prefix, entry.offset, position, entry.time,
                entry.place, entry.item, entry.suffix, entry.body,
            )  # fmt: skip
            inside = entry.offset > 0
            rows.append(
                (
                    position, session.id if inside else None, entry.offset if inside else None,
                    session.app, session.user, invocation, method, match, entry.data,
                )
            )  # fmt: skip
            moved = self.active.get(session.id)
            if moved is not None and moved[1] == entry.offset:
                session.activity = position
            newest[session.app] = position
        run(cursor, tables.events.insert, rows)
        database.advance(cursor, newest)

    def _write_rows(self, cursor: Any, tables: Tables) -> None:
        for kind, statements in (
            (SessionRow, tables.sessions),
            (InvocationRow, tables.invocations),
            (ProcessRow, tables.processes),
            (StreamRow, tables.streams),
            (JobRow, tables.jobs),
        ):
            _write_kind(cursor, kind, statements, self.new.values(), self.dirty.values())
        active = [(s.activity, s.id) for s, _ in self.active.values() if id(s) not in self.new]
        run(cursor, tables.activity.update, active)


def _write_kind(
    cursor: Any,
    kind: type[AnyRow],
    statements: Statements,
    new: Iterable[AnyRow],
    dirty: Iterable[AnyRow],
) -> None:
    # Changes first, of jobs those that give a lock back: another one may take it, or a new one.
    changed = [row for row in dirty if type(row) is kind]
    if kind is JobRow and len(changed) > 1:
        changed.sort(key=lambda row: isinstance(row, JobRow) and row.lock is not None)
    run(cursor, statements.update, [_changes(row) for row in changed])
    run(cursor, statements.insert, [row.values() for row in new if type(row) is kind])


def _changes(row: AnyRow) -> tuple[object, ...]:
    """Return the mutable columns in the order of `Tables`, then the primary key."""
    match row:
        case SessionRow():
            return (row.title, row.state, row.lane, row.waiting, row.data_bytes, row.id)
        case InvocationRow():
            return (
                row.state, row.status, row.attempt, row.losses, row.process, row.cancel,
                row.due_ms, row.end_ms, row.reason, row.reference, row.error_type,
                row.prompts, row.left_ms, row.retried_as, row.id,
            )  # fmt: skip
        case ProcessRow():
            return (row.beat_ms, row.lease_ms, row.id)
        case StreamRow():
            return (row.revision, row.key)
        case JobRow():
            return (
                row.result, row.progress, row.progress_text, row.start_ms, row.failures, row.lock,
                row.cards, row.card_ms, row.stale, row.behind, row.invocation,
            )  # fmt: skip

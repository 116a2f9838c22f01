"""Sessions that expire: closed when nothing has happened in them for as long as is configured."""

from __future__ import annotations

from sqlalchemy import select

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.types import InvocationKind, SessionState, WorkState
from capsule_sidecar.storage import encoding, schema, work, work_schema
from capsule_sidecar.storage.unit import Unit


def expire_sessions(unit: Unit, after: int, rows: int) -> int | None:
    """Close the sessions that have been idle for too long, walking them a page at a time.

    A session is idle where its lane is empty, none of its tasks has yet to end, and its
    newest event is older than the term. It is closed as by its person: the exit handler runs.

    Args:
        unit: The group's unit.
        after: Where the last page ended.
        rows: How many to look at.

    Returns:
        Where this page ended, or None at the end.
    """
    oldest = unit.now_ms - unit.terms.session_ttl_ms
    columns = schema.sessions.c
    page = unit.query(
        select(columns.id, columns.state, columns.lane, columns.channel, columns.create_ms)
        .where(columns.id > after)
        .order_by(columns.id)
        .limit(rows)
    )
    for row in page:
        idle = row.state == SessionState.OPEN and not row.lane and row.channel
        if idle and row.create_ms < oldest and _newest_ms(unit, row.id) < oldest:
            _close(unit, row.id)
    return page[-1].id if len(page) == rows else None


def _newest_ms(unit: Unit, session: int) -> int:
    """Return when a session's newest event was appended."""
    columns = schema.events.c
    (newest,) = unit.query(
        select(columns.data)
        .where(columns.session == session)
        .order_by(columns.offset.desc())
        .limit(1)
    )
    return events_pb2.Event.FromString(newest.data).create_time.ToMilliseconds()


def _close(unit: Unit, number: int) -> None:
    columns = work_schema.invocations.c
    if unit.query(
        select(columns.id)
        .where(
            columns.session == number,
            columns.state < int(WorkState.ENDED),
            columns.kind == int(InvocationKind.TASK),
        )
        .limit(1)
    ):
        return
    session = unit.session_by_id(number)
    if session.open and not session.lane:  # as this group has it
        session.state = SessionState.CLOSING
        work.enqueue(unit, session, InvocationKind.EXIT, encoding.SESSION_CLOSING)

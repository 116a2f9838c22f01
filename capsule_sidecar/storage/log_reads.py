"""What readers ask of the log: its events in order, and how far it goes.

Each function is given a connection inside a snapshot. Every query is an index look-up bounded by
its page.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.storage import schema

_users, _apps, _events = schema.users.c, schema.apps.c, schema.events.c

# Statements that every turn runs are built once: building one costs several times its execution.
_HEAD = (
    select(_events.offset)
    .where(_events.session == bindparam("session"))
    .order_by(_events.offset.desc())
    .limit(1)
)
_EVENT_AT = select(_events.data).where(
    _events.session == bindparam("session"), _events.offset == bindparam("offset")
)
_EVENTS_AFTER = (
    select(_events.position, _events.offset, _events.data)
    .where(_events.session == bindparam("session"), _events.offset > bindparam("after"))
    .order_by(_events.offset)
    .limit(bindparam("limit"))
)
# One writer: with its newest position, all before it are there.
_LAST_POSITION = select(func.max(_events.position))
# Several: another app's newest position may lie behind one of this app's that is still to come.
_LAST_POSITION_OF_APP = select(_apps.position).where(_apps.id == bindparam("app"))
_USER_EVENTS_AFTER = (
    select(_events.position, _events.offset, _events.data)
    .where(_events.user == bindparam("user"), _events.position > bindparam("after"))
    .order_by(_events.position)
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An encoded event with the order it is read in."""

    position: int
    offset: int
    data: bytes


def head(connection: Connection, session: int) -> int:
    """Return a session's newest offset."""
    return connection.execute(_HEAD, {"session": session}).scalar() or 0


def last_position(connection: Connection, app: int) -> int:
    """Return a position up to which all events of an app are there, and behind which none is."""
    if connection.dialect.name == "sqlite":
        return connection.execute(_LAST_POSITION).scalar() or 0
    return connection.execute(_LAST_POSITION_OF_APP, {"app": app}).scalar() or 0


def events_after(
    connection: Connection, session: int, offset: int, limit: int, max_bytes: int
) -> list[LogEvent]:
    """Return events of a session behind an offset: at least one where there is any."""
    rows = connection.execute(_EVENTS_AFTER, {"session": session, "after": offset, "limit": limit})
    return bounded([LogEvent(*row) for row in rows], max_bytes)


def bounded(found: list[LogEvent], max_bytes: int) -> list[LogEvent]:
    """Return as many as fit; the first always does."""
    total = 0
    for index, entry in enumerate(found):
        total += len(entry.data)
        if index and total > max_bytes:
            return found[:index]
    return found


def lowest_offset(connection: Connection, session: int) -> int:
    """Return the offset of the oldest event that is kept."""
    return (
        connection.execute(
            select(_events.offset)
            .where(_events.session == session)
            .order_by(_events.offset)
            .limit(1)
        ).scalar()
        or 1
    )


def channel_events_after(
    connection: Connection, app: int, channel: str, position: int, until: int, limit: int
) -> tuple[list[LogEvent], int]:
    """Return events of a channel's sessions behind a position, and how far was looked.

    Looks at `limit` positions of the log at the most, whoever they belong to.
    """
    last = min(until, position + limit)
    rows = connection.execute(
        select(_events.position, _events.offset, _events.data)
        .join(schema.users, _users.id == _events.user)
        .where(
            _events.position > position,
            _events.position <= last,
            _events.app == app,
            _users.identity.startswith(f"{channel}:", autoescape=True),
        )
        .order_by(_events.position)
    )
    return [LogEvent(p, o or 0, data) for p, o, data in rows], last


def user_events_after(
    connection: Connection, user: int, position: int, limit: int
) -> list[LogEvent]:
    """Return events of a user's sessions behind a position, in order."""
    rows = connection.execute(_USER_EVENTS_AFTER, {"user": user, "after": position, "limit": limit})
    return [LogEvent(p, offset or 0, data) for p, offset, data in rows]


def event_at(connection: Connection, session: int, offset: int) -> bytes:
    """Return one event.

    Raises:
        NotFound: It is not there.
    """
    data = connection.execute(_EVENT_AT, {"session": session, "offset": offset}).scalar()
    if data is None:
        raise NotFound("the event is not there")
    return bytes(data)

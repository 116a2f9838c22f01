"""What readers ask of sessions: the sessions, their data, and the timeline as it is now.

Each function is given a connection inside a snapshot. Every query is an index look-up bounded by
its page.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select, tuple_

from capsule_sidecar.model.errors import InvalidArgument, NotFound
from capsule_sidecar.model.types import (
    InvocationKind,
    InvocationStatus,
    ItemKind,
    Session,
    SessionState,
    UserInfo,
    WorkState,
)
from capsule_sidecar.storage import log_reads, schema, work_schema
from capsule_sidecar.storage.page_tokens import page_token, parse_page_token

_sessions, _users, _apps = schema.sessions.c, schema.users.c, schema.apps.c
_events, _items, _invocations = schema.events.c, schema.items.c, work_schema.invocations.c

_SESSION_COLUMNS = (
    _sessions.id,
    _sessions.key,
    _apps.name,
    _users.key.label("user_key"),
    _users.email,
    _users.org,
    _users.identity,
    _sessions.channel,
    _sessions.title,
    _sessions.state,
    _sessions.create_ms,
    _sessions.activity,
    _sessions.user,
)

# Statements that every turn runs are built once: building one costs several times its execution.
_SESSION_BY_KEY = (
    select(*_SESSION_COLUMNS)
    .join(schema.users, _users.id == _sessions.user)
    .join(schema.apps, _apps.id == _sessions.app)
    .where(_sessions.key == bindparam("key"), _sessions.app == bindparam("app"))
)
_DATA = (
    select(schema.session_data.c.key, schema.session_data.c.value)
    .where(schema.session_data.c.session == bindparam("session"))
    .order_by(schema.session_data.c.key)
)
_ITEMS = (
    select(_items.place, _items.offset, _items.kind, _events.data)
    .join(
        schema.events,
        and_(_events.session == _items.session, _events.offset == _items.event),
    )
    .where(_items.session == bindparam("session"))
    .order_by(_items.place.desc(), _items.offset.desc())
    .limit(bindparam("limit"))
)
_ITEMS_BEFORE = _ITEMS.where(
    tuple_(_items.place, _items.offset) < tuple_(bindparam("place"), bindparam("offset"))
)
_MESSAGES = _ITEMS.where(
    _items.kind == int(ItemKind.MESSAGE), _items.place < bindparam("until_place")
)
_MESSAGES_BEFORE = _ITEMS_BEFORE.where(
    _items.kind == int(ItemKind.MESSAGE), _items.place < bindparam("until_place")
)


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session, and how other rows refer to it."""

    number: int
    user: int
    identity: str
    session: Session


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the timeline; `event` is the encoded Event that carries its present state."""

    place: int
    offset: int
    kind: ItemKind
    event: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """An invocation that has not ended."""

    invocation_id: str
    kind: InvocationKind
    status: InvocationStatus
    place: int


def _found(connection: Connection, row: Any) -> FoundSession:
    number = row.id
    return FoundSession(
        number,
        row.user,
        row.identity,
        Session(
            row.key, row.name, UserInfo(row.user_key, row.email, row.org), row.channel, row.title,
            SessionState(row.state), row.create_ms, log_reads.head(connection, number),
            row.activity,
        ),
    )  # fmt: skip


def session_by_key(connection: Connection, app: int, key: str) -> FoundSession:
    """Return an app's session.

    Raises:
        NotFound: There is none of this key in this app.
    """
    row = connection.execute(_SESSION_BY_KEY, {"key": key, "app": app}).first()
    if row is None:
        raise NotFound(f"session {key!r} does not exist", session_id=key)
    return _found(connection, row)


def own_session(connection: Connection, app: int, key: str, identity: str) -> FoundSession:
    """Return an app's session that belongs to an identity.

    Raises:
        NotFound: There is none of this key, or it is somebody else's.
    """
    found = session_by_key(connection, app, key)
    if found.identity != identity:
        raise NotFound(f"session {key!r} does not exist", session_id=key)
    return found


def user_number(connection: Connection, app: int, identity: str) -> int | None:
    """Return the number of a user, if it was ever seen."""
    return connection.execute(
        select(_users.id).where(_users.app == app, _users.identity == identity)
    ).scalar()


def list_sessions(
    connection: Connection, app: int, identity: str, query: str, size: int, token: str
) -> tuple[list[Session], str]:
    """Return a page of an identity's sessions, the latest active first, and the next token."""
    after = parse_page_token(token, "sessions", 2)
    user = user_number(connection, app, identity)
    if user is None:
        return [], ""
    statement = (
        select(*_SESSION_COLUMNS)
        .join(schema.users, _users.id == _sessions.user)
        .join(schema.apps, _apps.id == _sessions.app)
        .where(_sessions.user == user)
        .order_by(_sessions.activity.desc(), _sessions.id.desc())
        .limit(size + 1)
    )
    if after is not None:
        activity, number = after
        statement = statement.where(
            tuple_(_sessions.activity, _sessions.id) < tuple_(activity, number)
        )
    if query:
        statement = statement.where(
            func.lower(_sessions.title).contains(query.lower(), autoescape=True)
        )
    found = [_found(connection, row) for row in connection.execute(statement)]
    more = len(found) > size
    found = found[:size]
    last = page_token("sessions", found[-1].session.activity, found[-1].number) if more else ""
    return [entry.session for entry in found], last


def timeline(
    connection: Connection,
    session: int,
    size: int,
    max_bytes: int,
    before: tuple[int, ...] | None,
    *,
    messages_before: int | None = None,
) -> tuple[list[Item], str]:
    """Return a page of a session's items in order, the newest page first, and the next token.

    Args:
        connection: A reader's connection.
        session: The session.
        size: Items of a page.
        max_bytes: Where a page stops; one item always fits.
        before: (session, place, offset) of the oldest item of the page after this one.
        messages_before: Only complete messages whose place is before this.

    Raises:
        InvalidArgument: `before` is of another session.
    """
    values: dict[str, int] = {"session": session, "limit": size + 1}
    if before is not None:
        of, values["place"], values["offset"] = before
        if of != session:
            raise InvalidArgument("page_token", "is not a token of this list")
    if messages_before is None:
        statement = _ITEMS if before is None else _ITEMS_BEFORE
    else:
        statement = _MESSAGES if before is None else _MESSAGES_BEFORE
        values["until_place"] = messages_before
    page: list[Item] = []
    total = 0
    more = False
    for place, offset, kind, data in connection.execute(statement, values):
        total += len(data)
        if page and (len(page) >= size or total > max_bytes):
            more = True
            break
        page.append(Item(place, offset, ItemKind(kind), data))
    name = "timeline" if messages_before is None else "messages"
    token = page_token(name, session, page[-1].place, page[-1].offset) if more else ""
    return page[::-1], token


def pending(connection: Connection, session: int, limit: int) -> list[Pending]:
    """Return the invocations of a session that have not ended, in order of arrival.

    They are the newest ones: as many as are in the lane are looked for, and no further.
    """
    lane = connection.execute(select(_sessions.lane).where(_sessions.id == session)).scalar()
    if not lane:
        return []
    rows = connection.execute(
        select(_invocations.key, _invocations.kind, _invocations.status, _invocations.place)
        .where(
            _invocations.session == session,
            _invocations.state < int(WorkState.ENDED),
            _invocations.kind < int(InvocationKind.TASK),
        )
        .order_by(_invocations.place.desc())
        .limit(min(limit, lane))
    )
    found = [
        Pending(key, InvocationKind(kind), InvocationStatus(status), place)
        for key, kind, status, place in rows
    ]
    return found[::-1]


def session_values(connection: Connection, session: int) -> list[tuple[str, bytes]]:
    """Return a session's data by key; values are JSON."""
    return [(key, bytes(value)) for key, value in connection.execute(_DATA, {"session": session})]


def session_data(connection: Connection, session: int) -> bytes:
    """Return a session's data as one JSON object."""
    values = session_values(connection, session)
    return b"{" + b",".join(json.dumps(k).encode() + b":" + v for k, v in values) + b"}"

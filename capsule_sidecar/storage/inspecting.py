"""What an operator reads: the invocations and sessions of an app, each as a page or alone.

Each function is given a connection inside a snapshot. Where no index leads to what a filter wants,
a page looks at so many rows at the most and may be short, or empty, with more behind it. The
session that stands for none is never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import (
    InvocationKind,
    InvocationStatus,
    Session,
    SessionState,
    Task,
    UserInfo,
)
from capsule_sidecar.storage import log_reads, schema, session_reads, work_schema
from capsule_sidecar.storage.job_reads import get_task
from capsule_sidecar.storage.page_tokens import page_token, parse_page_token

# Rows that one page looks at, at the most.
_LOOKED_AT = 20_000

_apps, _users, _sessions = schema.apps.c, schema.users.c, schema.sessions.c
_invocations, _events = work_schema.invocations.c, schema.events.c
# The hidden one of an app has no channel.
_is_conversation = _sessions.channel != ""

_INVOCATION = (
    select(
        _invocations.id, _invocations.key, _sessions.key, _sessions.channel, _invocations.kind,
        _invocations.status, _invocations.attempt, _invocations.create_ms, _invocations.end_ms,
        work_schema.processes.c.key, _invocations.reason, _invocations.reference,
        _invocations.error_type, _invocations.name,
        func.coalesce(_invocations.retried_as, ""),
    )
    .join(schema.sessions, _sessions.id == _invocations.session)
    .outerjoin(work_schema.processes, and_(work_schema.processes.c.id == _invocations.process))
)  # fmt: skip
_SESSION = (
    select(
        _sessions.id, _sessions.key, _apps.name.label("app"), _users.key.label("user"),
        _users.email, _users.org, _users.identity, _sessions.channel, _sessions.title,
        _sessions.state, _sessions.create_ms, _sessions.activity, _sessions.lane,
    )
    .join(schema.users, _users.id == _sessions.user)
    .join(schema.apps, _apps.id == _sessions.app)
    .where(_is_conversation)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule as it is in force.

    Attributes:
        name: Its name.
        cron: Its line.
        timezone: The time zone of its line.
        next_ms: When its next tick is due, in Unix epoch milliseconds.
    """

    name: str
    cron: str
    timezone: str
    next_ms: int


def schedules(connection: Connection, app: int) -> list[ScheduleInfo]:
    """Return the schedules of an app, by name."""
    columns = work_schema.schedules.c
    statement = (
        select(columns.name, columns.cron, columns.timezone, columns.next_ms)
        .where(columns.app == app)
        .order_by(columns.name)
    )
    return [ScheduleInfo(*row) for row in connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class InvocationInfo:
    """An invocation as an operator sees it. Times are Unix epoch milliseconds, 0 for none.

    `session_id` is empty where it has no session, `name` where its kind has none, `retried_as`
    where no other invocation does it again.
    """

    invocation_id: str
    session_id: str
    kind: InvocationKind
    status: InvocationStatus
    attempt: int
    create_ms: int
    end_ms: int
    process_id: str
    reason: str
    reference_id: str
    error_type: str
    name: str
    retried_as: str


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as an operator sees it, and how many invocations of its lane have not ended."""

    session: Session
    identity: str
    unended: int


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A session with its data, a JSON object, and the end of its log: encoded Events, in order."""

    info: SessionInfo
    data_json: bytes
    events: list[bytes]


@dataclass(frozen=True, slots=True)
class InvocationFilter:
    """Which invocations: those for which all that is set holds."""

    status: InvocationStatus | None = None
    kind: InvocationKind | None = None
    session_id: str = ""


def app_number(connection: Connection, app: str) -> int:
    """Return the number of an app.

    Raises:
        NotFound: It was never seen.
    """
    number = connection.execute(select(_apps.id).where(_apps.name == app)).scalar()
    if number is None:
        raise NotFound(f"app {app!r} was never seen", app=app)
    return int(number)


def invocations(
    connection: Connection, app: int, wanted: InvocationFilter, size: int, token: str
) -> tuple[list[InvocationInfo], str]:
    """Return a page of an app's invocations, the newest first, and the next token.

    Raises:
        InvalidArgument: The token is none of this list.
        NotFound: The session is not the app's.
    """
    after = parse_page_token(token, "invocations", 1)
    of = _conversation(connection, app, wanted.session_id) if wanted.session_id else None
    where: list[ColumnElement[bool]] = [_invocations.app == app]
    if of is not None:
        # An index leads to all that a session has: they are put in order, however many.
        where = [_invocations.session == of]
    if after is not None:
        where.append(_invocations.id < after[0])
    last = None
    if of is None and (wanted.status is not None or wanted.kind is not None):
        last = connection.execute(
            select(_invocations.id)
            .where(*where)
            .order_by(_invocations.id.desc())
            .limit(1)
            .offset(_LOOKED_AT - 1)
        ).scalar()
        if last is not None:
            where.append(_invocations.id >= last)
    if wanted.status is not None:
        where.append(_invocations.status == int(wanted.status))
    if wanted.kind is not None:
        where.append(_invocations.kind == int(wanted.kind))
    # Which ones first: what else is told of them is read of these alone.
    newest = select(_invocations.id).where(*where).order_by(_invocations.id.desc()).limit(size + 1)
    statement = _INVOCATION.where(_invocations.id.in_(newest)).order_by(_invocations.id.desc())
    rows = list(connection.execute(statement))
    if len(rows) > size:
        last = rows[size - 1][0]
    return (
        [_invocation(row) for row in rows[:size]],
        page_token("invocations", last) if last is not None else "",
    )


def invocation(connection: Connection, app: int, key: str) -> tuple[InvocationInfo, Task | None]:
    """Return an app's invocation, and the task where it is one.

    Raises:
        NotFound: There is none of this key in this app.
    """
    row = connection.execute(
        _INVOCATION.where(_invocations.key == key, _invocations.app == app)
    ).first()
    if row is None:
        raise NotFound(f"invocation {key[:64]!r} does not exist", invocation_id=key[:64])
    info = _invocation(row)
    if info.kind != InvocationKind.TASK:
        return info, None
    return info, get_task(connection, app, key)


def sessions(
    connection: Connection, app: int, user: str, size: int, token: str
) -> tuple[list[SessionInfo], str]:
    """Return a page of an app's sessions, the newest first, and the next token.

    Args:
        connection: A reader's connection.
        app: The app.
        user: Only of this one, an id or an identity; empty: of all.
        size: Sessions of a page.
        token: Where the last page ended; empty: the first page.

    Raises:
        InvalidArgument: The token is none of this list.
    """
    after = parse_page_token(token, "app_sessions", 1)
    where: list[ColumnElement[bool]] = []
    if after is not None:
        where.append(_sessions.id < after[0])
    last = None
    if user:
        named = _users.identity if ":" in user else _users.key
        number = connection.execute(
            select(_users.id).where(_users.app == app, named == user)
        ).scalar()
        if number is None:
            return [], ""
        where.append(_sessions.user == number)
    else:
        # By their numbers, those of other apps among them.
        last = connection.execute(
            select(_sessions.id)
            .where(*where)
            .order_by(_sessions.id.desc())
            .limit(1)
            .offset(_LOOKED_AT - 1)
        ).scalar()
        if last is not None:
            where.append(_sessions.id >= last)
    where.append(_sessions.app == app)
    statement = _SESSION.where(*where).order_by(_sessions.id.desc()).limit(size + 1)
    rows = list(connection.execute(statement))
    if len(rows) > size:
        last = rows[size - 1].id
    return (
        [_session(connection, row) for row in rows[:size]],
        page_token("app_sessions", last) if last is not None else "",
    )


def session(connection: Connection, app: int, key: str, events: int, max_bytes: int) -> SessionEnd:
    """Return an app's session with the end of its log: the newest events that fit.

    Raises:
        NotFound: There is none of this key in this app.
    """
    row = connection.execute(_SESSION.where(_sessions.key == key, _sessions.app == app)).first()
    if row is None:
        raise NotFound(f"session {key[:64]!r} does not exist", session_id=key[:64])
    newest: list[bytes] = []
    total = 0
    for (data,) in connection.execute(
        select(_events.data)
        .where(_events.session == row.id)
        .order_by(_events.offset.desc())
        .limit(events)
    ):
        total += len(data)
        if newest and total > max_bytes:
            break
        newest.append(bytes(data))
    return SessionEnd(
        _session(connection, row), session_reads.session_data(connection, row.id), newest[::-1]
    )


def _conversation(connection: Connection, app: int, key: str) -> int:
    number = connection.execute(
        select(_sessions.id).where(_sessions.key == key, _sessions.app == app, _is_conversation)
    ).scalar()
    if number is None:
        raise NotFound(f"session {key[:64]!r} does not exist", session_id=key[:64])
    return int(number)


def _invocation(row: Any) -> InvocationInfo:
    _, key, session_key, channel, kind, status, attempt, created, ended, process, *rest = row
    return InvocationInfo(
        key, session_key if channel else "", InvocationKind(kind), InvocationStatus(status),
        attempt, created, ended, process or "", *rest,
    )  # fmt: skip


def _session(connection: Connection, row: Any) -> SessionInfo:
    found = Session(
        row.key, row.app, UserInfo(row.user, row.email, row.org), row.channel, row.title,
        SessionState(row.state), row.create_ms, log_reads.head(connection, row.id), row.activity,
    )  # fmt: skip
    return SessionInfo(found, row.identity, row.lane)

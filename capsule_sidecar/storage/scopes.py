"""Whose values and documents a caller reaches: applied here, from what the caller is.

No name, filter or document takes part in it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, select

from capsule_sidecar.model.errors import (
    InvalidArgument,
    InvocationEnded,
    NoSession,
    NotFound,
    NoUser,
    Superseded,
)
from capsule_sidecar.model.types import Lease, UserInfo, WorkState
from capsule_sidecar.storage import attempts, schema, work_schema
from capsule_sidecar.storage.rows import InvocationRow
from capsule_sidecar.storage.unit import Unit

_invocations, _sessions, _users = work_schema.invocations.c, schema.sessions.c, schema.users.c
_READER = (
    select(
        _invocations.state, _invocations.attempt, _sessions.id, _sessions.channel, _users.id,
        _users.key, _users.org,
    )
    .join(schema.sessions, _sessions.id == _invocations.session)
    .join(schema.apps, schema.apps.c.id == _invocations.app)
    # Without a session of its own, work is for the app's owner.
    .outerjoin(
        schema.users,
        _users.id == case((_sessions.channel == "", schema.apps.c.owner), else_=_sessions.user),
    )
    .where(_invocations.key == bindparam("key"), _invocations.app == bindparam("app"))
)  # fmt: skip


class Scope(enum.IntEnum):
    """Whose a value or a document is. Stored, and as on the wire: numbers never change."""

    SESSION = 1
    USER = 2
    OWNER = 3
    APP = 4


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks a data or endpoint handler; None: nobody who is signed in."""

    user: UserInfo | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an app, for an attempt of an invocation or, in the app's scope, for none.

    Attributes:
        app: The app's number.
        lease: The attempt.
        visitor: For whom a data or endpoint handler asks: there is no row of its invocation, so
            whoever hands the operation over has looked whether it still runs.
    """

    app: int
    lease: Lease | None = None
    visitor: Visitor | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where values and documents of one scope lie.

    Attributes:
        app: The app's number.
        scope: The scope.
        holder: The session's number, the user's, the owner's id; empty for an app's.
    """

    app: int
    scope: Scope
    holder: str


def place_to_write(unit: Unit, caller: Caller, scope: Scope) -> tuple[Place, InvocationRow | None]:
    """Return where a caller may write, and for which invocation.

    Raises:
        InvalidArgument: No invocation is named, and the scope is not the app's.
        NotFound: There is no such invocation in this app.
        Superseded: The attempt may write nothing any more.
        InvocationEnded: Nor has it anything to write.
        NoUser: The session has no user.
    """
    if caller.visitor is not None:
        return _of_visitor(caller.app, caller.visitor, scope, unit.query), None
    if caller.lease is None:
        return _of_app(caller, scope), None
    invocation, session = attempts.held(unit, caller.app, caller.lease)
    number = 0 if session.hidden else session.id
    user = unit.owner(caller.app) if session.hidden else session.user
    if scope is not Scope.OWNER:
        return _place(caller.app, scope, number, user, "", ""), invocation
    key, _, org = unit.user_columns(user) if user else ("", "", "")
    return _place(caller.app, scope, number, user, key, org), invocation


def place_to_read(connection: Connection, caller: Caller, scope: Scope) -> Place:
    """Return where a caller may read.

    Raises:
        InvalidArgument: No invocation is named, and the scope is not the app's.
        NotFound: There is no such invocation in this app.
        Superseded: The invocation was delivered again.
        InvocationEnded: The invocation has ended.
        NoUser: The session has no user.
    """
    if caller.visitor is not None:
        return _of_visitor(caller.app, caller.visitor, scope, connection.execute)
    lease = caller.lease
    if lease is None:
        return _of_app(caller, scope)
    row = connection.execute(_READER, {"key": lease.invocation_id, "app": caller.app}).first()
    if row is None:
        raise NotFound(
            f"invocation {lease.invocation_id!r} does not exist", invocation_id=lease.invocation_id
        )
    state, attempt, session, channel, user, key, org = row
    if state == WorkState.ENDED:
        raise InvocationEnded(f"invocation {lease.invocation_id!r} has ended")
    if state != WorkState.RUNNING or attempt != lease.attempt:
        raise Superseded(
            f"attempt {lease.attempt} of invocation {lease.invocation_id!r} was superseded"
        )
    number = session if channel else 0
    return _place(caller.app, scope, number, user or 0, key or "", org or "")


def _of_app(caller: Caller, scope: Scope) -> Place:
    if scope is not Scope.APP:
        raise InvalidArgument("invocation_id", "is required for every scope but the app's")
    return Place(caller.app, scope, "")


def _of_visitor(
    app: int, visitor: Visitor, scope: Scope, find: Callable[[Select[Any]], Iterable[Any]]
) -> Place:
    user = visitor.user
    if scope is Scope.APP:
        return Place(app, scope, "")
    if scope is Scope.SESSION:
        raise InvalidArgument("scope", "a data or endpoint request has no session")
    if user is None:
        raise NoUser("nobody is signed in")
    if scope is Scope.OWNER:
        return Place(app, scope, user.owner_id)
    for (number,) in find(select(_users.id).where(_users.key == user.user_id, _users.app == app)):
        return Place(app, scope, str(number))
    raise NoUser("the user is gone")


def _place(app: int, scope: Scope, session: int, user: int, key: str, org: str) -> Place:
    if scope is Scope.APP:
        return Place(app, scope, "")
    if scope is Scope.SESSION:
        if not session:
            raise NoSession("this work has no session, so nothing of a session's")
        return Place(app, scope, str(session))
    if not user:
        raise NoUser(
            "the session has no user"
            if session
            else "this work has no session, and its app no owner: `owner` in the configuration"
        )
    return Place(app, scope, str(user) if scope is Scope.USER else f"org:{org}" if org else key)

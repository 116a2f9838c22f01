"""Browsers that are signed in: who a cookie's token stands for.

Only a token's digest is kept, so that nobody who reads the database can sign in with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from capsule_sidecar.model.types import UserInfo
from capsule_sidecar.storage import people, schema
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.unit import Unit

_logins, _users = schema.logins.c, schema.users.c
_FIND = (
    select(
        _logins.method, _logins.seen_ms, _logins.expire_ms,
        _users.identity, _users.key, _users.email, _users.org,
    )
    .join(schema.users, _users.id == _logins.user)
    .where(_logins.token == bindparam("token"), _logins.app == bindparam("app"))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Login:
    """Who is signed in, by which method. Times are Unix epoch milliseconds."""

    identity: str
    user: UserInfo
    method: str
    seen_ms: int
    expire_ms: int


def find(connection: Connection, app: int, token: bytes) -> Login | None:
    """Return who a token's digest stands for, also where its time is over."""
    found = connection.execute(_FIND, {"app": app, "token": token}).first()
    if found is None:
        return None
    method, seen_ms, expire_ms, identity, key, email, org = found
    return Login(identity, UserInfo(key, email, org), method, seen_ms, expire_ms)


def sign_in(unit: Unit, person: Person, method: str, token: bytes, ttl_ms: int) -> Login:
    """Keep a token for a person, who is made on first sight; forget those whose time is over."""
    user = people.find_or_make_user(unit, person)
    expire_ms = unit.now_ms + ttl_ms
    unit.execute(delete(schema.logins).where(_logins.expire_ms < unit.now_ms))
    unit.execute(
        insert(schema.logins).values(
            token=token, app=person.app, user=user, method=method, create_ms=unit.now_ms,
            seen_ms=unit.now_ms, expire_ms=expire_ms,
        )
    )  # fmt: skip
    info = UserInfo(*unit.user_columns(user))
    return Login(person.identity, info, method, unit.now_ms, expire_ms)


def prolong(unit: Unit, token: bytes, ttl_ms: int) -> None:
    """Let a token's time begin anew."""
    unit.execute(
        update(schema.logins)
        .where(_logins.token == token)
        .values(seen_ms=unit.now_ms, expire_ms=unit.now_ms + ttl_ms)
    )


def sign_out(unit: Unit, token: bytes) -> None:
    """Forget a token; one that is not known is forgotten already."""
    unit.execute(delete(schema.logins).where(_logins.token == token))

"""Small values by key, in four scopes."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from sqlalchemy import Connection

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded, WrongType
from capsule_sidecar.storage.documents.forms import after
from capsule_sidecar.storage.documents.jsons import MAX_NUMBER, Number, SumRefused, parse, plus
from capsule_sidecar.storage.documents.rows import bounded, fetch
from capsule_sidecar.storage.requests import Answer, Request, handler_scope, once
from capsule_sidecar.storage.rows import InvocationRow
from capsule_sidecar.storage.scopes import Caller, Place, Scope, place_to_read, place_to_write
from capsule_sidecar.storage.unit import Unit
from capsule_sidecar.storage.values import check_json

MAX_KEY = 256
MAX_VALUE_BYTES = 1 << 20

_HERE = "app = ? AND scope = ? AND holder = ?"
_GET = f"SELECT value, update_ms FROM key_values WHERE {_HERE} AND key = ?"  # noqa: S608 - our own words
_SET = (
    "INSERT INTO key_values (app, scope, holder, key, value, update_ms) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (app, scope, holder, key)"
    " DO UPDATE SET value = excluded.value, update_ms = excluded.update_ms"
)
_DELETE = f"DELETE FROM key_values WHERE {_HERE} AND key = ?"  # noqa: S608 - our own words


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its key. `update_ms`: when it was set last, Unix epoch milliseconds."""

    key: str
    value_json: bytes
    update_ms: int


def check_key(key: str, field: str = "key") -> str:
    """Return a key that can be kept.

    Raises:
        InvalidArgument: It has not 1 to 256 characters, or a NUL.
    """
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidArgument(field, f"has 1 to {MAX_KEY} characters")
    if "\0" in key:
        raise InvalidArgument(field, "has no NUL character")
    return key


def check_value(value_json: bytes) -> bytes:
    """Return a value that can be kept, as it was given.

    Raises:
        InvalidArgument: It is not JSON, or a number in it has more than 400 characters.
        LimitExceeded: It is over 1 MiB.
    """
    if len(value_json) > MAX_VALUE_BYTES:
        raise LimitExceeded("value_bytes", MAX_VALUE_BYTES, "value: has more than 1 MiB")
    check_json(value_json, "value")
    return value_json


def parse_by(by_json: bytes) -> Number:
    """Return what is added; empty: 1.

    Raises:
        InvalidArgument: It is no JSON number of at most 400 characters.
    """
    if len(by_json) > MAX_NUMBER:
        raise InvalidArgument("by", f"a number has at most {MAX_NUMBER} characters")
    found = parse(by_json or b"1", "by")
    if not isinstance(found, Number):
        raise InvalidArgument("by", "must be a number")
    return found


def _there(place: Place) -> tuple[int, int, str]:
    return place.app, int(place.scope), place.holder


# -- writing -----------------------------------------------------------------------------------


def set_value(
    unit: Unit, caller: Caller, scope: Scope, request: Request, key: str, value_json: bytes
) -> int:
    """Set a value; return the time in milliseconds.

    Raises:
        DomainError: As `place_to_write`.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, caller, scope)
        unit.write(_SET, [(*_there(place), key, value_json, unit.now_ms)])
        return Answer(unit.now_ms), invocation

    return once(unit, handler_scope(caller.app, request.method), request, work).offset


def delete_value(unit: Unit, caller: Caller, scope: Scope, request: Request, key: str) -> bool:
    """Remove a value; tell whether there was one.

    Raises:
        DomainError: As `place_to_write`.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, caller, scope)
        found = unit.fetch(_GET, (*_there(place), key))
        if found:
            unit.write(_DELETE, [(*_there(place), key)])
        return Answer(len(found)), invocation

    return bool(once(unit, handler_scope(caller.app, request.method), request, work).offset)


def increment(
    unit: Unit, caller: Caller, scope: Scope, request: Request, key: str, by: Number
) -> bytes:
    """Add to a number; return the sum as JSON.

    Raises:
        DomainError: As `place_to_write`.
        WrongType: What is there is no number, or the sum is beyond 64-bit floating point or
            400 characters.
    """

    def work() -> tuple[Answer, InvocationRow | None]:
        place, invocation = place_to_write(unit, caller, scope)
        found = unit.fetch(_GET, (*_there(place), key))
        before = parse(bytes(found[0][0]), "value", stored=True) if found else Number("0")
        if not isinstance(before, Number):
            raise WrongType("key", f"the value of {key!r} is no number")
        try:
            total = plus(before, by)
        except SumRefused as error:
            raise WrongType("by", str(error)) from None
        unit.write(_SET, [(*_there(place), key, total.text.encode(), unit.now_ms)])
        return Answer(unit.now_ms, (total.text,)), invocation

    answer = once(unit, handler_scope(caller.app, request.method), request, work)
    return answer.ids[0].encode()


# -- reading -----------------------------------------------------------------------------------


def get_value(connection: Connection, caller: Caller, scope: Scope, key: str) -> Value | None:
    """Return a value; None where there is none.

    Raises:
        DomainError: As `place_to_read`.
    """
    place = place_to_read(connection, caller, scope)
    found = fetch(connection, _GET, (*_there(place), key))
    return Value(key, bytes(found[0][0]), found[0][1]) if found else None


def list_values(
    connection: Connection,
    caller: Caller,
    scope: Scope,
    prefix: str,
    page_size: int,
    page_bytes: int,
    page_token: str,
) -> tuple[list[Value], str]:
    """Return a page of the values whose keys begin so, in the order of their keys.

    Args:
        connection: Inside a snapshot.
        caller: Who asks.
        scope: Whose.
        prefix: What keys begin with; empty for all.
        page_size: At most so many.
        page_bytes: The page ends with the value that exceeds it.
        page_token: Of the page before; empty for the first.

    Returns:
        The values, and the next page's token; empty: this is the last.

    Raises:
        DomainError: As `place_to_read`.
        InvalidArgument: The token is none of this list.
    """
    place = place_to_read(connection, caller, scope)
    behind = _parse_token(page_token, prefix)
    where, values = _HERE, [*_there(place)]
    if prefix:
        where += " AND key >= ? AND key < ?"
        values += [prefix, after(prefix)]
    if behind:
        where += " AND key > ?"
        values += [behind]
    found = [
        Value(row[0], bytes(row[1]), row[2])
        for row in bounded(
            connection,
            f"SELECT key, value, update_ms FROM key_values WHERE {where} ORDER BY key LIMIT ?",  # noqa: S608 - our own words
            (*values, page_size + 1),
            "value",
            page_bytes,
        )
    ]
    more = len(found) > page_size or sum(len(each.value_json) for each in found) > page_bytes
    page = found[:page_size]
    return page, _token(page[-1].key) if more else ""


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(b"values " + key.encode()).decode().rstrip("=")


def _parse_token(token: str, prefix: str) -> str:
    if not token:
        return ""
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        data = ""
    key = data.removeprefix("values ")
    if key == data or not key.startswith(prefix) or "\0" in key:
        raise InvalidArgument("page_token", "is not a token of this list")
    return key

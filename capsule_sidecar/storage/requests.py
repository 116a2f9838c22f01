"""Requests that are sent again: the same request by its id, the same wish by a later attempt.

Two different questions have one home. *Sent again*: a client repeats a request with its id and gets
what was answered first, whatever has happened since. *Repeated*: a handler that is delivered again
runs from its start, and what it asks for as an earlier attempt did is matched by (invocation,
method, digest, ordinal) and not done twice.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import select

from capsule_sidecar.model.errors import DomainError, RequestIdReused
from capsule_sidecar.storage import encoding, schema
from capsule_sidecar.storage.rows import InvocationRow, Repeats
from capsule_sidecar.storage.unit import Unit


class Method(enum.IntEnum):
    """What was asked. Part of a request id's scope, stored: numbers never change."""

    REPLY = 1
    OPEN_STREAM = 2
    CLOSE_STREAM = 3
    SHOW_BLOCK = 4
    SET_TITLE = 5
    UPDATE_DATA = 6
    PROMPT_FILE = 7
    PROMPT_APPROVAL = 8
    PROMPT_CHOICE = 9
    SHOW_IMAGE = 10
    UPLOAD_FILE = 11
    OPEN_SESSION = 16
    SEND_MESSAGE = 17
    UPDATE_SESSION = 18
    STOP_INVOCATION = 19
    SEND_ACTION = 20
    CLOSE_SESSION = 21
    DELETE_SESSION = 22
    ANSWER_PROMPT = 23
    SET_VALUE = 32
    DELETE_VALUE = 33
    INCREMENT_VALUE = 34
    INSERT_DOCUMENTS = 35
    UPDATE_DOCUMENTS = 36
    DELETE_DOCUMENTS = 37
    SUBMIT_TASK = 40
    CANCEL_TASKS = 41
    SHOW_TASK = 42
    RETRY_INVOCATION = 48


_USERS = 1 << 62


class Request(NamedTuple):
    """A writing request's identity.

    Attributes:
        method: What it asks.
        key: Its request id, 16 bytes.
        digest: Of its content, without request id and attempt.
        match: What a later attempt repeats it by; None where nothing can.
    """

    method: Method
    key: bytes
    digest: bytes
    match: bytes | None = None


class Answer(NamedTuple):
    """What a writing request is answered: an offset (or another number), and ids."""

    offset: int
    ids: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """Return it as it is stored."""
        return f"{self.offset} {' '.join(self.ids)}".rstrip().encode()

    @staticmethod
    def unpack(data: bytes) -> Answer:
        """Return what `pack` made bytes of."""
        offset, *ids = data.decode().split(" ")
        return Answer(int(offset), tuple(ids))


def handler_scope(app: int, method: Method) -> int:
    """Return the scope of request ids of an app's handlers."""
    return app << 8 | method


def operator_scope(app: int, method: Method) -> int:
    """Return the scope of request ids of whoever looks after an app.

    There is one operator, and no handler calls what an operator does: the method tells them apart.
    """
    return app << 8 | method


def user_scope(user: int, method: Method) -> int:
    """Return the scope of request ids of a person."""
    return _USERS | user << 8 | method


def once(
    unit: Unit,
    scope: int,
    request: Request,
    work: Callable[[], tuple[Answer, InvocationRow | None]],
) -> Answer:
    """Do a request's work, unless it was done before.

    Retries are rare, so the table's key finds them: a group with one fails and is run again
    operation by operation, and only then is each id looked up first.

    Args:
        unit: The group's unit.
        scope: The id's scope.
        request: The request.
        work: Validates and does it; returns the answer and the invocation it was done for.

    Raises:
        RequestIdReused: The id was used with other content.
        DomainError: The work's refusal.
    """
    if unit.strict or (scope, request.key) in unit.requests:
        found = find(unit, scope, request)
        if found is not None:
            return found
    try:
        answer, invocation = work()
    except DomainError:
        # An answer that was given stays the answer, also when the same would be refused now.
        found = None if unit.strict else find(unit, scope, request)
        if found is not None:
            return found
        raise
    unit.requests[scope, request.key] = (
        scope,
        request.key,
        request.digest,
        request.match,
        invocation.id if invocation is not None else 0,
        invocation.attempt if invocation is not None else 0,
        answer.pack(),
        unit.now_ms,
    )
    return answer


def find(unit: Unit, scope: int, request: Request) -> Answer | None:
    """Return what a request with this id was answered.

    Raises:
        RequestIdReused: The id was used with other content.
    """
    found = recorded(unit, scope, request.key)
    if found is None:
        return None
    digest, answer = found
    check_same(digest, request.digest)
    return answer


def recorded(unit: Unit, scope: int, key: bytes) -> tuple[bytes, Answer] | None:
    """Return the digest of the request that had this id, and what it was answered."""
    pending = unit.requests.get((scope, key))
    if pending is not None:
        digest, response = pending[2], pending[6]
    else:
        columns = schema.requests.c
        row = unit.connection.execute(
            select(columns.digest, columns.response).where(
                columns.scope == scope, columns.key == key
            )
        ).first()
        if row is None:
            return None
        digest, response = row
    assert isinstance(digest, bytes)
    assert isinstance(response, bytes)
    return digest, Answer.unpack(response)


def check_same(recorded: bytes, digest: bytes) -> None:
    """Check that a request that is sent again asks for the same.

    Raises:
        RequestIdReused: The id was used with other content.
    """
    if recorded != digest:
        raise RequestIdReused("this request id was used before with other content")


def repeated(unit: Unit, invocation: InvocationRow, request: Request) -> Answer | None:
    """Return what an earlier attempt's equal request was answered, or None where there is none.

    Each call counts as one request of the current attempt.
    """
    if invocation.attempt == 1 or request.match is None:
        return None
    repeats = invocation.repeats
    if repeats is None:
        repeats = invocation.repeats = _load(unit, invocation)
    wish = (int(request.method), request.match)
    ordinal = repeats.asked.get(wish, 0)
    repeats.asked[wish] = ordinal + 1
    committed = repeats.committed.get(wish, ())
    return Answer.unpack(committed[ordinal]) if ordinal < len(committed) else None


def remember(invocation: InvocationRow, request: Request, answer: Answer) -> None:
    """Note a new request of a later attempt, so that equal ones after it have their ordinal."""
    if invocation.repeats is not None and request.match is not None:
        wish = (int(request.method), request.match)
        invocation.repeats.committed.setdefault(wish, []).append(answer.pack())


def _load(unit: Unit, invocation: InvocationRow) -> Repeats:
    """Read what the invocation's attempts committed, and what the current one has asked for.

    The log holds the first, the recorded requests of later attempts the second.
    """
    unit.flush_if_pending()
    repeats = Repeats()
    answers: dict[tuple[int, bytes], dict[int, bytes]] = {}
    events, requests = schema.events.c, schema.requests.c
    for offset, method, match, data in unit.connection.execute(
        select(events.offset, events.method, events.match, events.data).where(
            events.session == invocation.session,
            events.offset > invocation.place,
            events.invocation == invocation.id,
            events.match.is_not(None),
        )
    ):
        item, ids = encoding.made(data)
        # A stream counts where it was opened, everything else where it stands.
        answers.setdefault((method, match), {})[item] = Answer(offset, ids).pack()
    for wish, found in answers.items():
        repeats.committed[wish] = [found[item] for item in sorted(found)]
    for scope, match in unit.connection.execute(
        select(requests.scope, requests.match).where(
            requests.invocation == invocation.id,
            schema.is_of_later_attempt,
            requests.attempt == invocation.attempt,
            # A number may have served a session that was deleted.
            requests.create_ms >= invocation.create_ms,
        )
    ):
        if match is not None:
            wish = (scope & 0xFF, match)
            repeats.asked[wish] = repeats.asked.get(wish, 0) + 1
    return repeats

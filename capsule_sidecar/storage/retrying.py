"""What failed is done again, once, when an operator asks for it.

It runs on the writer thread, inside a unit of work.
"""

from __future__ import annotations

from sqlalchemy import select

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.errors import NotFailed, NotFound, NotRepeatable, SessionClosed
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import InvocationKind, InvocationStatus, ItemKind, Sender
from capsule_sidecar.storage import encoding, files, jobs, schema, work
from capsule_sidecar.storage.requests import Answer, Method, Request, once, operator_scope
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit

_FAILED = (InvocationStatus.FAILED, InvocationStatus.TIMED_OUT)
_REPEATABLE = (InvocationKind.MESSAGE, InvocationKind.ACTION, InvocationKind.TASK)


def retry(unit: Unit, app: int, request: Request, key: str) -> Answer:
    """Let a failed invocation be done again. Answers the id of what does it.

    That is the same for a task. Of a message or click it is an invocation that is queued anew; of
    one that was before, always that one.

    Args:
        unit: The group's unit.
        app: The app's number.
        request: The request.
        key: The invocation.

    Raises:
        RequestIdReused: The request's id was used for another invocation.
        NotFound: There is no such invocation in this app, or a file of the message is gone.
        NotRepeatable: Its kind cannot be done again, or another task has its lock.
        NotFailed: It did not fail.
        SessionClosed: Its session takes no more input.
        TooManyWaiting: Too many user messages are waiting in its session.
    """

    def work_() -> tuple[Answer, None]:
        return Answer(0, (_retry(unit, app, key),)), None

    return once(unit, operator_scope(app, Method.RETRY_INVOCATION), request, work_)


def _retry(unit: Unit, app: int, key: str) -> str:
    invocation = unit.invocation(key, app)
    kind = InvocationKind(invocation.kind)
    if kind not in _REPEATABLE:
        raise NotRepeatable(
            f"{key!r} is of kind {kind.name}: it belongs to its time and is not done again",
            invocation_id=key,
            kind=kind.name,
        )
    status = InvocationStatus(invocation.status)
    if status not in _FAILED:
        raise NotFailed(
            f"invocation {key!r} did not fail: it is {status.name}",
            invocation_id=key,
            status=status.name,
        )
    if kind == InvocationKind.TASK:
        jobs.reopen(unit, invocation)
        return key
    if invocation.retried_as:
        return invocation.retried_as
    session = unit.session_by_id(invocation.session)
    if not session.open:
        raise SessionClosed("the session takes no more input", session_id=session.key)
    queued = _queue(unit, session, invocation)
    # With the invocation, not with the request: it is as true after the retention of request ids.
    invocation.retried_as = queued.key
    unit.change(invocation)
    return queued.key


def _queue(unit: Unit, session: SessionRow, failed: InvocationRow) -> InvocationRow:
    """Append what caused an invocation once more, behind all that the session has."""
    columns = schema.events.c
    rows = unit.query(
        select(columns.data).where(columns.session == session.id, columns.offset == failed.place)
    )
    if not rows:
        raise NotFound("what the invocation was for is no longer there", invocation_id=failed.key)
    event = events_pb2.Event.FromString(bytes(rows[0][0]))
    if failed.kind == InvocationKind.ACTION:
        sent = event.action_sent
        body = encoding.action_sent(sent.name, sent.block_id, sent.payload_json)
        return work.enqueue(unit, session, InvocationKind.ACTION, body, name=failed.name)[0]
    message = event.message_added.message
    keys = [attachment.file_id for attachment in message.attachments]
    carried = files.usable(unit, session, keys, "attachments")
    body = encoding.message_added(
        new_id("msg"), Sender.USER, message.text, session.channel, unit.now_ms, files=carried
    )
    return work.enqueue(
        unit, session, InvocationKind.MESSAGE, body, maximum_waiting=unit.terms.max_waiting,
        item=ItemKind.MESSAGE,
    )[0]  # fmt: skip

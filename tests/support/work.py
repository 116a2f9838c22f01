"""What the tests of work say often: an invocation's requests, its lease, its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

from capsule_protocol.v1 import (
    admin_service_pb2,
    events_pb2,
    handler_service_pb2,
    session_service_pb2,
    types_pb2,
)
from tests.support.eventually import eventually
from tests.support.sidecar import FAST, BareHandler, Follow, Person, request_id

EVERYTHING = handler_service_pb2.Declarations(message=True, enter=True, exit=True, actions=["pick"])
MESSAGES = handler_service_pb2.Declarations(message=True)

# A sweep later than three intervals pardons what was lost: on a busy machine that is no defect, but
# a test that counts losses must not see it.
CALM: dict[str, Any] = FAST | {"sweep_interval": 1.0}


def of(work: handler_service_pb2.Invocation, **fields: Any) -> dict[str, Any]:
    """Returns the fields that every request of an invocation has, and those given."""
    return {"invocation_id": work.invocation_id, "attempt": work.attempt} | fields


def reply(
    work: handler_service_pb2.Invocation, text: str, *, key: str = "", request: str = ""
) -> session_service_pb2.ReplyRequest:
    """Returns a reply, with a new request id unless one is given."""
    return session_service_pb2.ReplyRequest(
        **of(work, text=text, key=key, request_id=request or request_id())
    )


def lease(work: handler_service_pb2.Invocation) -> handler_service_pb2.Lease:
    """Returns the lease that an invocation was delivered under."""
    return handler_service_pb2.Lease(**of(work))


async def say(handler: BareHandler, work: handler_service_pb2.Invocation, text: str) -> int:
    """Replies by a command; returns the message's offset."""
    result = await handler.result(await handler.command(reply=reply(work, text)))
    assert result.WhichOneof("result") == "reply", result
    return int(result.reply.offset)


async def acknowledged(
    handler: BareHandler, work: handler_service_pb2.Invocation
) -> handler_service_pb2.OutcomeAck:
    """Waits until an outcome of this attempt is acknowledged."""

    def found() -> handler_service_pb2.OutcomeAck | None:
        assert handler.error is None, handler.error
        for frame in handler.frames:
            ack = frame.outcome_ack
            if (ack.invocation_id, ack.attempt) == (work.invocation_id, work.attempt):
                return ack
        return None

    ack = await eventually(found, timeout=15, message="the outcome is acknowledged")
    assert ack is not None
    return ack


async def ended(
    follow: Follow, invocation_id: str, timeout: float = 15.0
) -> events_pb2.InvocationEnded:
    """Waits for the one terminal event of an invocation."""

    def found() -> list[events_pb2.InvocationEnded]:
        return [
            event.invocation_ended
            for event in follow.events
            if event.WhichOneof("kind") == "invocation_ended"
            and event.invocation_id == invocation_id
        ]

    ends = await eventually(found, timeout=timeout, message=f"{invocation_id} ends")
    assert len(ends) == 1
    return ends[0]


async def invocations(person: Person, **fields: Any) -> list[admin_service_pb2.InvocationInfo]:
    """Returns the app's invocations as the operator sees them, the newest first."""
    app = dict(person.metadata)["capsule-app"]
    request = admin_service_pb2.ListInvocationsRequest(app=app, **fields)
    page = await person.admin.ListInvocations(request, metadata=person.metadata, timeout=20)
    return list(page.invocations)


async def status_of(person: Person, invocation_id: str) -> int:
    """Returns an invocation's status as the operator sees it."""
    for info in await invocations(person, page_size=200):
        if info.invocation_id == invocation_id:
            return int(info.status)
    raise AssertionError(f"{invocation_id} is not listed")


async def beaten(handler: BareHandler, count: int = 1) -> None:
    """Waits until so many more beats of the process are acknowledged.

    Frames are written in the order of their causes: what was caused before the first of these beats
    was answered has come too.
    """

    def seen() -> int:
        return sum(frame.WhichOneof("frame") == "beat_ack" for frame in handler.frames)

    before = seen()
    await eventually(lambda: seen() >= before + count, timeout=15, message=f"{count} more beats")


async def heard(handler: BareHandler) -> None:
    """Waits until the sidecar has taken all that this line has sent so far."""
    number = secrets.randbits(48)
    beat = handler_service_pb2.Beat(number=number)
    await handler.send(handler_service_pb2.HandlerFrame(beat=beat))

    def answered() -> bool:
        return any(frame.beat_ack.number == number for frame in handler.frames)

    await eventually(answered, timeout=15, message="what was sent is taken")


async def passed(seconds: float) -> None:
    """Waits for a term to pass: something must *not* have happened by then, or may only now."""
    until = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= until, timeout=seconds + 5, interval=0.02)


def works(handler: BareHandler) -> list[handler_service_pb2.Invocation]:
    """Returns the invocations that a process was given so far."""
    return [f.invocation for f in handler.frames if f.WhichOneof("frame") == "invocation"]


def texts_of(items: Iterable[handler_service_pb2.Invocation]) -> list[str]:
    """Returns the texts of the messages that turns are for."""
    return [work.turn.message.text for work in items]


def completed(status: int) -> bool:
    """Tells whether a status is the ordinary end."""
    return status == types_pb2.INVOCATION_STATUS_COMPLETED

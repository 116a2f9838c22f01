"""What a handler may do with the streams that it writes: one function each.

As with the other commands, each validates and hands its operation over before it returns. A delta
is none of the journal's: it is in effect at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import (
    DigestMismatch,
    DomainError,
    InvalidArgument,
    LimitExceeded,
    StreamClosed,
)
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.checks import check_length
from capsule_sidecar.runtime.flows import Flows, converted
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.live_stream import LiveStream, Refuse, Where
from capsule_sidecar.storage import log
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.streams import stream_match
from capsule_sidecar.storage.unit import Unit


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream is: open, with its durable place, or complete, with its encoded event."""

    stream_id: str
    revision: int = 0
    position: int = 0
    event: bytes | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A stream that is complete. No event: it had no text and was withdrawn."""

    offset: int
    event: bytes | None


class StreamCommands:
    """The handler's side of streams.

    Args:
        journal: The log.
        live: The open streams.
        limits: What is taken.
    """

    def __init__(self, journal: Journal, live: LiveStreams, limits: Limits) -> None:
        self._journal = journal
        self._flows = Flows(journal, live)
        self._live = live
        self._limits = limits

    def open(
        self, app: int, lease: Lease, request_id: str, key: str
    ) -> asyncio.Future[StreamState]:
        """Open a stream, or say where it is.

        Raises:
            InvalidArgument: The request id or key is malformed.
        """
        check_length("key", key, self._limits.max_key_chars)
        identity = parse_request_id(request_id)
        stream = self._live.get(request_id)
        mine = stream is None
        if stream is None:
            maximum = self._limits.open_streams
            if self._live.count(lease.invocation_id) >= maximum:
                raise LimitExceeded(
                    "open_streams", maximum, f"an invocation has at most {maximum} open streams"
                )
            stream = self._live.begin(request_id, lease, app)
        request = Request(
            Method.OPEN_STREAM, identity, digest(lease.invocation_id, key), stream_match(key)
        )

        # As it is in its place among the events: what follows in the same group may complete it.
        state: StreamState | None = None

        def opened(found: tuple[log.StreamAnswer, Where, int]) -> None:
            nonlocal state
            answer, where, place = found
            if answer.open:
                if stream.where is None:
                    offset, (_, message_id) = answer.answer.offset, answer.answer.ids
                    self._live.opened(stream, where, offset, place, message_id)
                state = StreamState(request_id, stream.durable_revision, stream.durable)
                return
            self._live.discard(request_id)
            if answer.event is not None:
                state = StreamState(answer.answer.ids[0], event=answer.event)

        def answered(_: object) -> StreamState:
            if state is None:
                raise StreamClosed(f"stream {request_id!r} was withdrawn", stream_id=request_id)
            return state

        future = self._flows.write(
            app,
            lease,
            partial(_open_stream, app=app, lease=lease, request=request, key=request_id,
                    write_key=key),
            opened,
        )  # fmt: skip
        if mine:
            future.add_done_callback(partial(self._open_failed, request_id))
        return converted(future, answered)

    def _open_failed(self, key: str, future: asyncio.Future[object]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._live.discard(key)

    def append(
        self,
        app: int,
        lease: Lease,
        stream_id: str,
        text: str,
        *,
        revision: int,
        position: int | None,
        replace: bool,
        refuse: Refuse | None = None,
    ) -> tuple[int, int]:
        """Take a delta; return revision and length after it.

        `refuse` is told of a gap that is known as one only when the stream's opening is answered.

        Raises:
            StreamClosed: It takes no more text.
            StreamGap: The delta does not join on.
            LimitExceeded: The text would be too long: the stream is complete now, interrupted.
        """
        if position is not None and position < 0:
            raise InvalidArgument("position", "must not be negative")
        try:
            return self._live.append(
                stream_id, app, lease, text, revision=revision, position=position, replace=replace,
                refuse=refuse,
            )  # fmt: skip
        except LimitExceeded:
            stream = self._live.get(stream_id)
            if stream is not None:
                known = 0 if position is None or replace else stream.length - position
                self._overflow(app, stream, text[known:])
            raise

    def unsaved(self, stream_id: str) -> int:
        """Return how many bytes of a stream's deltas are not durable yet."""
        return self._live.unsaved(stream_id)

    def _overflow(self, app: int, stream: LiveStream, text: str) -> None:
        kept = self._live.fill(stream, text)
        self._live.discard(stream.key)
        # The writer is told of the limit, and the event tells everybody else.
        self._journal.start(
            app,
            partial(log.overflow_stream, app=app, lease=stream.lease, key=stream.key, text=kept),
        )

    def close(
        self,
        app: int,
        lease: Lease,
        request_id: str,
        stream_id: str,
        *,
        length: int | None,
        sha256: bytes,
        interrupted: bool,
    ) -> asyncio.Future[Closed]:
        """Complete a stream.

        Raises:
            InvalidArgument: The request id is malformed.
            DigestMismatch: Length or digest of the text differ; the stream stays open.
        """
        content = digest(lease.invocation_id, stream_id, bytes((interrupted,)))
        request = Request(Method.CLOSE_STREAM, parse_request_id(request_id), content)
        stream = self._live.get(stream_id)
        text: str | None = None
        refusal: DomainError | None = None
        if stream is not None and (stream.app != app or stream.fenced or stream.lease != lease):
            stream = None  # not the caller's to close: the operation says why
        if stream is not None:
            text = stream.text
            # Not refused at once: both opening and close may be sent again, of a stream that is
            # complete. Then there is no such text here, and the recorded answer is the answer.
            refusal = _mismatch(text, length, sha256)
            # Its opening may still be on its way: the operations run in their order.
            stream.closing = refusal is None
        future = self._flows.write(
            app, lease, partial(
                log.close_stream, app=app, lease=lease, request=request, key=stream_id, text=text,
                interrupted=interrupted, refusal=refusal,
            ),
        )  # fmt: skip
        if stream is not None:
            future.add_done_callback(partial(self._close_failed, stream))
        return converted(future, lambda found: Closed(found.answer.offset, found.event))

    def _close_failed(self, stream: LiveStream, future: asyncio.Future[object]) -> None:
        if future.cancelled():
            return
        if future.exception() is None:
            self._live.discard(stream.key)
        elif not isinstance(future.exception(), StreamClosed):
            stream.closing = False

    def watch(self, stream_id: str, durable: Callable[[str, int, int], None] | None) -> None:
        """Name who else is told (stream, revision, position) when a stream's text is durable."""
        stream = self._live.get(stream_id)
        if stream is not None:
            stream.watcher = durable


def _open_stream(
    unit: Unit, app: int, lease: Lease, request: Request, key: str, write_key: str
) -> tuple[log.StreamAnswer, Where, int]:
    answer = log.open_stream(unit, app, lease, request, key, write_key)
    invocation = unit.invocation(lease.invocation_id, app)
    session = unit.session_by_id(invocation.session)
    where = Where(session.id, session.key, session.user, session.app, session.channel)
    stream = unit.stream(answer.answer.ids[0])
    return answer, where, stream.place if stream is not None else invocation.place


def _mismatch(text: str, length: int | None, sha256: bytes) -> DigestMismatch | None:
    if length is not None and length != len(text):
        return DigestMismatch(
            f"the stream has {len(text)} characters, not {length}", length=len(text)
        )
    if sha256 and hashlib.sha256(text.encode()).digest() != sha256:
        return DigestMismatch("the stream's text has another digest", length=len(text))
    return None

"""What a handler may do in a session: one function each, whichever way it was called.

Each is a plain function that returns a future or a value: it validates and hands its operation to
the journal before it returns, so the order of calls is the order of effects.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.config import Limits
from capsule_sidecar.model.blocks import check_payload
from capsule_sidecar.model.errors import (
    DigestMismatch,
    DomainError,
    InvalidArgument,
    LimitExceeded,
    StreamClosed,
)
from capsule_sidecar.model.ids import digest, new_id, parse_request_id
from capsule_sidecar.model.types import Block, DataPatch, Lease, Session
from capsule_sidecar.runtime.checks import (
    check_length,
    check_object,
    check_text,
    check_title,
    page_size,
)
from capsule_sidecar.runtime.collections import Collections
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.live_stream import LiveStream, Refuse, Where
from capsule_sidecar.runtime.prompting import Prompting
from capsule_sidecar.runtime.showing import image_request
from capsule_sidecar.runtime.state import State
from capsule_sidecar.runtime.tasks import Tasks
from capsule_sidecar.storage import attempts, log, reads, showing, values
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.requests import Answer, Method, Request
from capsule_sidecar.storage.streams import stream_match
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")

_BLOCK_TYPE = re.compile(r"[a-z0-9_.-]{1,64}")


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


class Commands:
    """The handler's side of sessions.

    Args:
        journal: The log.
        hub: The followers.
        live: The open streams.
        prompting: What it asks people.
        state: Its values.
        collections: Its documents.
        tasks: Its tasks.
        limits: What is taken.
    """

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        live: LiveStreams,
        prompting: Prompting,
        state: State,
        collections: Collections,
        tasks: Tasks,
        limits: Limits,
    ) -> None:
        self.prompting = prompting
        self.state = state
        self.collections = collections
        self.tasks = tasks
        self._journal = journal
        self._hub = hub
        self._live = live
        self._limits = limits

    def reply(
        self, app: int, lease: Lease, request_id: str, text: str, key: str
    ) -> asyncio.Future[Answer]:
        """Append one complete message. Answers its offset and id.

        Raises:
            InvalidArgument: The text is empty, or the request id or key is malformed.
            LimitExceeded: The text is too long.
        """
        check_text(text, self._limits.max_text_bytes)
        content = digest(lease.invocation_id, text, key)
        request = Request(
            Method.REPLY, parse_request_id(request_id), content, self._match(key) or content
        )
        return self._write(
            app, lease, partial(
                log.reply, app=app, lease=lease, request=request, message_id=new_id("msg"),
                text=text,
            ),
        )  # fmt: skip

    def notify(self, app: int, lease: Lease, text: str, detail: str) -> asyncio.Future[None]:
        """Show a status line; blank text does nothing.

        Raises:
            LimitExceeded: Text or detail is too long.
        """
        check_length("status_line", text, self._limits.max_status_chars)
        check_length("status_detail", detail, self._limits.max_detail_chars)
        line = events_pb2.StatusLine(
            invocation_id=lease.invocation_id, text=text.strip(), detail=detail
        )

        def show(where: tuple[Where, int]) -> None:
            if line.text:
                place, after = where
                self._hub.status(
                    place.session_id, place.session, place.user, place.app, place.channel,
                    after, line,
                )  # fmt: skip

        return self._done(self._write(app, lease, partial(_where, app=app, lease=lease), show))

    def show_block(
        self, app: int, lease: Lease, request_id: str, block: Block
    ) -> asyncio.Future[Answer]:
        """Show a block, or change it in place. Answers the offset and its id.

        Raises:
            InvalidArgument: Type, id or payload is malformed, or a known type carries another one.
            LimitExceeded: The payload is too large.
        """
        if not _BLOCK_TYPE.fullmatch(block.type):
            raise InvalidArgument("block.type", "must be 1 to 64 of a-z, 0-9, _, . and -")
        check_length("block_id", block.block_id, self._limits.max_block_id_chars)
        payload = check_object(
            block.payload_json, "block.payload_json", self._limits.max_block_bytes, "block_payload"
        )
        check_payload(block.type, payload)
        named = Block(block.type, payload, block.block_id)
        content = digest(lease.invocation_id, block.block_id, block.type, payload)
        request = Request(
            Method.SHOW_BLOCK,
            parse_request_id(request_id),
            content,
            None if block.block_id else content,
        )
        return self._write(
            app, lease, partial(log.show_block, app=app, lease=lease, request=request, block=named)
        )

    def show_image(
        self, app: int, lease: Lease, request_id: str, file_id: str, alt: str, width: int
    ) -> asyncio.Future[Answer]:
        """Show a file of the session as an image. Answers the offset and the block's id.

        Raises:
            InvalidArgument: A field is malformed.
            LimitExceeded: The alternative text is too long.
        """
        request = image_request(self._limits, lease, request_id, file_id, alt, width)
        operation = partial(
            showing.show_image, app=app, lease=lease, request=request, file_id=file_id, alt=alt,
            width=width,
        )  # fmt: skip
        return self._write(app, lease, operation)

    def set_title(
        self, app: int, lease: Lease, request_id: str, title: str
    ) -> asyncio.Future[Answer]:
        """Set the session's title. Answers the offset.

        Raises:
            InvalidArgument: It has line breaks or is too long.
        """
        check_title(title, self._limits.max_title_chars)
        request = Request(
            Method.SET_TITLE, parse_request_id(request_id), digest(lease.invocation_id, title)
        )
        return self._write(
            app, lease, partial(log.set_title, app=app, lease=lease, request=request, title=title)
        )

    def update_data(
        self, app: int, lease: Lease, request_id: str, patch: DataPatch
    ) -> asyncio.Future[Answer]:
        """Change the session's data at once. Answers the time in milliseconds.

        Raises:
            InvalidArgument: A key or value is malformed.
        """
        values.check_patch(patch, "patch")
        parts = [part for key in sorted(patch.set_json) for part in (key, patch.set_json[key])]
        content = digest(lease.invocation_id, *parts, "-", *sorted(patch.delete_keys))
        request = Request(Method.UPDATE_DATA, parse_request_id(request_id), content)
        return self._write(
            app, lease, partial(log.update_data, app=app, lease=lease, request=request, patch=patch)
        )

    # -- streams ---------------------------------------------------------------------------------

    def open_stream(
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

        future = self._write(
            app,
            lease,
            partial(_open_stream, app=app, lease=lease, request=request, key=request_id,
                    write_key=key),
            opened,
        )  # fmt: skip
        if mine:
            future.add_done_callback(partial(self._open_failed, request_id))
        return self._then(future, answered)

    def _open_failed(self, key: str, future: asyncio.Future[object]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._live.discard(key)

    def append_stream(
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

    def close_stream(
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
        future = self._write(
            app, lease, partial(
                log.close_stream, app=app, lease=lease, request=request, key=stream_id, text=text,
                interrupted=interrupted, refusal=refusal,
            ),
        )  # fmt: skip
        if stream is not None:
            future.add_done_callback(partial(self._close_failed, stream))
        return self._then(future, lambda found: Closed(found.answer.offset, found.event))

    def _close_failed(self, stream: LiveStream, future: asyncio.Future[object]) -> None:
        if future.cancelled():
            return
        if future.exception() is None:
            self._live.discard(stream.key)
        elif not isinstance(future.exception(), StreamClosed):
            stream.closing = False

    def watch_stream(self, stream_id: str, durable: Callable[[str, int, int], None] | None) -> None:
        """Name who else is told (stream, revision, position) when a stream's text is durable."""
        stream = self._live.get(stream_id)
        if stream is not None:
            stream.watcher = durable

    # -- reading -----------------------------------------------------------------------------------

    async def get_session(self, app: int, lease: Lease) -> tuple[Session, bytes]:
        """Return the invocation's session and its data as JSON."""
        where, _ = await self._journal.submit(app, partial(_within, app=app, lease=lease))
        found: tuple[Session, bytes] = await self._journal.read(
            lambda c: (
                reads.session_by_key(c, app, where.session_id).session,
                reads.session_data(c, where.session),
            )
        )
        return found

    async def list_messages(
        self, app: int, lease: Lease, size: int, token: str
    ) -> tuple[list[reads.Item], str]:
        """Return a page of the messages before the invocation's place, and the next token."""
        before = reads.parse_page_token(token, "messages", 3)
        where, place = await self._journal.submit(app, partial(_within, app=app, lease=lease))
        items, following = await self._journal.read(
            partial(
                reads.timeline, session=where.session, size=page_size(size, self._limits),
                max_bytes=self._limits.page_bytes, before=before, messages_before=place,
            )
        )  # fmt: skip
        fill = self._hub.addresses.event
        return [replace(item, event=fill(item.event)) for item in items], following

    # -- the way to the journal -------------------------------------------------------------------

    def _match(self, key: str) -> bytes | None:
        check_length("key", key, self._limits.max_key_chars)
        return digest("key", key) if key else None

    def _write(
        self,
        app: int,
        lease: Lease,
        operation: Callable[[Unit], T],
        then: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        flow = self._live.flow(lease.invocation_id)
        flow.submitted += 1
        return self._journal.submit(app, operation, then, flow.settle)

    @staticmethod
    def _then(future: asyncio.Future[T], convert: Callable[[T], _R]) -> asyncio.Future[_R]:
        """Return a future of the converted result."""
        result: asyncio.Future[_R] = future.get_loop().create_future()

        def settle(done: asyncio.Future[T]) -> None:
            if result.done():
                return
            if done.cancelled():
                result.cancel()
            elif (error := done.exception()) is not None:
                result.set_exception(error)
            else:
                try:
                    result.set_result(convert(done.result()))
                except DomainError as refusal:
                    result.set_exception(refusal)

        future.add_done_callback(settle)
        return result

    def _done(self, future: asyncio.Future[T]) -> asyncio.Future[None]:
        return self._then(future, lambda _: None)


_R = TypeVar("_R")
_BEHIND_ALL = 1 << 62


def _where(unit: Unit, app: int, lease: Lease) -> tuple[Where, int]:
    """Return where an invocation writes, and its session's head."""
    _, session = attempts.fence(unit, app, lease)
    where = Where(session.id, session.key, session.user, session.app, session.channel)
    return where, session.head


def _within(unit: Unit, app: int, lease: Lease) -> tuple[Where, int]:
    """Return where an invocation is, and before which place its history is."""
    invocation, session = attempts.in_session(unit, app, lease)
    where = Where(session.id, session.key, session.user, session.app, session.channel)
    # What is beside the lane has all of the session's messages before it.
    return where, _BEHIND_ALL if invocation.beside else invocation.place


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

"""A reply stream's way to the sidecar: what is sent, what is durable, what to send again."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from capsule_client import _frames, _utf8
from capsule_client._places import Places
from capsule_client.errors import CapsuleError, LimitExceeded
from capsule_protocol.v1.handler_service_pb2 import CommandResult, HandlerFrame

if TYPE_CHECKING:
    from capsule_client._outbox import Command, Outbox
    from capsule_client._turn import Turn

# Room in the window for the stream's opening and close, so that neither ever has to wait.
RESERVED_COMMANDS = 2
RESERVED_BYTES = 1024
_AT_ONCE_BYTES = 4096  # what waits beyond this is sent without waiting for the interval
_ROOM_BYTES = 16 * 1024  # an awaited write waits while more than this is unsent
_LEAST_BYTES = 64  # goes in any case when nothing of the stream is under way
_FRAME_BYTES = 256  # of a delta beside its text, at most


class TextStream:
    """The text of one stream in two parts: what was sent, and what waits for the writer.

    Text is kept until the stream ends, so that after a loss of the line everything behind the last
    durable place can be sent again in one piece. Positions count code points.
    """

    def __init__(self, turn: Turn, outbox: Outbox) -> None:
        self.turn = turn
        self.stream_id = outbox.new_id()
        self.marked = False  # waits in the outbox's queue
        self.error: CapsuleError | None = None
        self.open_command: Command | None = None
        self.opened = False  # the opening was answered on this line
        self.syncing = False  # the opening failed and is to be repeated before anything else
        self._outbox = outbox
        self._reserved = False
        self._sent: list[str] = []
        self._sent_length = 0
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._total_bytes = 0
        self._revision = 0
        self._sent_revision = 0
        self._replaces = False  # the next delta cuts the text and raises the revision
        self._places = Places()
        self._refused_early = False  # a delta was, before the opening was answered
        self._resend = False  # what is not durable goes again before anything new
        self._held_close: Command | None = None  # waits for that
        self._close_early = False  # it went before text that goes again
        self._closing: asyncio.Future[None] | None = None
        self._close_sent = False
        self._interrupted = False
        self._final: str | None = None  # the text of the message that the sidecar made of it
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def text(self) -> str:
        """The text so far."""
        if self._final is not None:
            return self._final
        return self._whole_sent() + self._whole_pending()

    async def reserve(self) -> None:
        """Takes room in the window for the stream's own commands."""
        self.turn.check()
        await self._outbox.window.take(RESERVED_COMMANDS, RESERVED_BYTES)
        self._reserved = True
        self.turn.streams[self.stream_id] = self

    @property
    def closing(self) -> bool:
        """Whether its close was asked for."""
        return self._closing is not None

    # The handler's side.

    def append(self, text: str) -> bool:
        """Adds text; says whether the line keeps up."""
        self._check()
        if not text or self._final is not None:
            return True
        size = _utf8.size(text)
        fits = self._outbox.limits.max_text_bytes - self._total_bytes
        over = size > fits
        if over:
            text, size = _utf8.cut(text, fits)
        if text:
            self._pending.append(text)
            self._pending_bytes += size
            self._total_bytes += size
            self._advance()
        if over:
            raise LimitExceeded(
                f"a message holds at most {self._outbox.limits.max_text_bytes} bytes of text",
                reason="LIMIT_EXCEEDED",
                metadata={
                    "limit": "text",
                    "maximum": str(self._outbox.limits.max_text_bytes),
                },
            )
        return self._pending_bytes < _ROOM_BYTES

    def revise(self, text: str) -> bool:
        """Makes `text` the whole text; says whether the line keeps up."""
        self._check()
        if self._final is not None:
            return True
        current = self.text
        kept = len(current)
        if not text.startswith(current):
            kept = _utf8.common(current, text)
            self._cut_to(kept)
        return self.append(text[kept:])

    async def wait_for_room(self) -> None:
        """Waits until the writer has taken most of what waits."""
        while self._pending_bytes >= _ROOM_BYTES and self.error is None:
            await self._wait()
        self._check()

    async def finish(self, *, interrupted: bool = False) -> None:
        """Completes the message and returns once it is durable."""
        closing = self._begin_close(interrupted)
        if closing is not None:
            await closing

    def interrupt(self) -> None:
        """Completes the message as interrupted, without waiting for the answer.

        Where the turn is given back it is left as it is, for the next attempt to replace.
        """
        if self.turn.released:
            self._end(None)
            return
        closing = self._begin_close(True)
        if closing is not None:
            closing.add_done_callback(_forget)

    async def settled(self) -> None:
        """Waits until the close, if one was asked for, is on its way: an outcome may follow it."""
        while self._closing is not None and not self._close_sent and self.error is None:
            await self._wait()

    # The outbox's side.

    def take(self, room: int) -> bytes | None:
        """Returns the next delta as a frame of at most `room` bytes; None where none may go now."""
        if self.error is not None or self._final is not None or self.syncing:
            return None
        item = self._repeat() if self._resend else None
        if item is None and (self._pending or self._replaces):
            item = self._fresh(room)
            if item is None:
                self._outbox.block(self)
                return None
        if self._pending or self._replaces:
            self._outbox.mark(self)
        elif self._closing is not None and not self._close_sent:
            self._send_close()
        return item

    def restart(self) -> None:
        """Prepares for a new line: the opening goes first, then what is not durable."""
        self.marked = False
        self.opened = False
        self.syncing = False
        self._refused_early = False
        self._resend = True
        self._close_early = False
        self._held_close = None

    def acknowledge(self, revision: int, position: int) -> None:
        """Takes over the durable place."""
        freed = self._places.acknowledged(revision, position)
        if freed:
            self._outbox.window.give(0, freed)

    def answered(self, command: Command, result: CommandResult) -> None:
        """Takes the answer to the opening or to the close."""
        if command is not self.open_command:
            if result.close_stream.HasField("message"):
                self._final = result.close_stream.message.text
            self._end(None)
            return
        self.opened = True
        answer = result.open_stream
        if answer.HasField("message"):
            self._final = answer.message.text  # an earlier attempt finished it
            if self._closing is not None:
                self._end(None)
            return
        self.acknowledge(answer.revision, answer.position)
        if self.syncing or self._refused_early:
            self.syncing = self._refused_early = False
            self._resend = True
            self._outbox.mark(self)
            if self._held_close is not None:
                self._outbox.requeue(self._held_close)
                self._held_close = None
            else:
                self._close_early = self._close_sent

    def failed(self, command: Command, error: CapsuleError) -> None:
        """Takes the error that answered the opening or the close for good."""
        if command is not self.open_command and self._final is not None:
            self._end(None)
            return
        self.fail(self.error or error)

    def retries(self, close: Command) -> bool:
        """Takes a close that failed; says whether it goes again behind text that does."""
        if self.syncing or self._refused_early:
            self._held_close = close
            return True
        early, self._close_early = self._close_early, False
        if early:
            self._outbox.requeue(close)
        return early

    def refused(self, error: CapsuleError) -> None:
        """Takes the refusal of a delta."""
        if self.syncing or self._final is not None:
            return
        if not self.opened:
            # Deltas are judged at once, openings when they are durable: the answer of the opening
            # may be that the stream is complete already. Else what was refused goes again.
            self._refused_early = True
        elif self.error is None:
            self.error = error
            self._wake()
            # With a close under way its answer ends the stream; it may be complete already.
            if not self._close_sent:
                self.fail(error)

    def fail(self, error: CapsuleError) -> None:
        """Ends the stream by an error."""
        self.error = error
        self._end(error)

    # Inside.

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
        self.turn.check()

    def _advance(self) -> None:
        if self.open_command is None:
            self._open()
            self._outbox.mark(self)
        elif self._pending_bytes >= _AT_ONCE_BYTES:
            self._outbox.mark(self)
        else:
            self._outbox.pace(self)

    def _open(self) -> None:
        frame = HandlerFrame()
        request = frame.command.open_stream
        request.invocation_id = self.turn.invocation_id
        request.attempt = self.turn.attempt
        request.request_id = self.stream_id
        self.open_command = self._outbox.open_stream(self, frame)

    def _begin_close(self, interrupted: bool) -> asyncio.Future[None] | None:
        if self.open_command is None or self._final is not None:
            self._end(None)
            return None
        if self.error is not None:
            if interrupted:
                return None
            raise self.error
        self._interrupted = interrupted
        self._closing = asyncio.get_running_loop().create_future()
        if self._pending or self._replaces or self._resend:
            self._outbox.mark(self)
        else:
            self._send_close()
        return self._closing

    def _send_close(self) -> None:
        text = self._whole_sent()
        frame = HandlerFrame()
        request = frame.command.close_stream
        request.invocation_id = self.turn.invocation_id
        request.attempt = self.turn.attempt
        request.request_id = self._outbox.new_id()
        request.stream_id = self.stream_id
        request.length = self._sent_length
        request.sha256 = hashlib.sha256(text.encode()).digest()
        request.interrupted = self._interrupted
        self._close_sent = True
        self._outbox.enqueue(self.turn, frame, self)
        self._wake()

    def _end(self, error: CapsuleError | None) -> None:
        self.turn.streams.pop(self.stream_id, None)
        self._outbox.forget(self)
        if self._reserved:
            self._reserved = False
            self._outbox.window.give(RESERVED_COMMANDS, RESERVED_BYTES + self._places.land())
        if self._closing is not None and not self._closing.done():
            if error is None:
                self._closing.set_result(None)
            else:
                self._closing.set_exception(error)
        self._wake()

    def _cut_to(self, position: int) -> None:
        if position >= self._sent_length:
            kept = self._whole_pending()[: position - self._sent_length]
            self._pending = [kept] if kept else []
        else:
            self._sent = [self._whole_sent()[:position]]
            self._sent_length = position
            self._pending = []
            self._revision += 1
            self._replaces = True
            self._places.cut(self._revision, position)
            self._outbox.pace(self)
        self._pending_bytes = sum(map(_utf8.size, self._pending))
        self._total_bytes = _utf8.size(self._whole_sent()) + self._pending_bytes

    def _repeat(self) -> bytes | None:
        """Everything sent behind the last durable place that still holds, as one delta."""
        self._resend = False
        self._outbox.window.give(0, self._places.land())
        base = self._places.base(self._sent_length)
        text = self._whole_sent()[base:]
        behind = self._places.durable[0] < self._sent_revision
        if not text and not behind:
            return None
        item = self._delta(text, base, behind)
        self._fly(len(item))
        return item

    def _fresh(self, room: int) -> bytes | None:
        """What waits, or as much of it as may go now, as a delta."""
        text = self._next(room)
        if text is None:
            return None
        self._sent_revision = self._revision
        item = self._delta(text, self._sent_length, self._replaces)
        self._replaces = False
        self._sent.append(text)
        self._sent_length += len(text)
        self._fly(len(item))
        if self._pending_bytes < _ROOM_BYTES:
            self._wake()
        return item

    def _next(self, room: int) -> str | None:
        """Takes from what waits as much as may go; None where the windows have no room now."""
        window, limits = self._outbox.window.room_bytes, self._outbox.limits
        room = min(room, window, limits.stream_window_bytes - self._places.flying) - _FRAME_BYTES
        text = self._whole_pending()
        if self._pending_bytes <= room:
            self._pending = []
            self._pending_bytes = 0
            return text
        if room < _AT_ONCE_BYTES and (
            self._places.flying or window < _AT_ONCE_BYTES + _FRAME_BYTES
        ):
            return None
        part, size = _utf8.cut(text, max(room, _LEAST_BYTES))
        self._pending = [text[len(part) :]]
        self._pending_bytes -= size
        return part

    def _delta(self, text: str, position: int, replace: bool) -> bytes:
        frame = HandlerFrame()
        request = frame.command.append_stream
        request.invocation_id = self.turn.invocation_id
        request.attempt = self.turn.attempt
        request.stream_id = self.stream_id
        request.text = text
        request.revision = self._sent_revision
        request.position = position
        if replace:
            request.replace = True
        return _frames.encode(frame)

    def _fly(self, size: int) -> None:
        self._places.sent(self._sent_revision, self._sent_length, size)
        self._outbox.window.take_bytes(size)

    def _whole_sent(self) -> str:
        if len(self._sent) > 1:
            self._sent = ["".join(self._sent)]
        return self._sent[0] if self._sent else ""

    def _whole_pending(self) -> str:
        if len(self._pending) > 1:
            self._pending = ["".join(self._pending)]
        return self._pending[0] if self._pending else ""

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)


def _forget(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()

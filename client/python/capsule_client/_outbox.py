"""Everything on its way to the sidecar, in order, until it is answered."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from capsule_client import _frames
from capsule_client._error_table import from_status
from capsule_client._ids import RequestIds
from capsule_client._limits import Limits
from capsule_client._pacer import Pacer
from capsule_client._text import TextStream
from capsule_client._turn import Turn
from capsule_client._window import Window
from capsule_client.errors import DETACHED, CapsuleError, LimitExceeded, Unavailable
from capsule_protocol.v1.handler_service_pb2 import (
    CommandResult,
    HandlerFrame,
    Outcome,
    StreamAck,
    StreamRefused,
)

_TRIES = 9  # of a command that is answered UNAVAILABLE: about 10 s in all
_FIRST_DELAY = 0.05  # seconds, doubled each time
_MAX_DELAY = 3.0
_FRAME_SLACK = 1024  # what a batch adds to a frame
_STREAM_ROOM = 8 * 1024  # a batch with less left is closed before a delta is cut for it


class Command:
    """A request that has no answer yet."""

    __slots__ = (
        "dropped", "future", "item", "sent", "size", "stream", "tag", "timer", "tries", "turn",
        "waits",
    )  # fmt: skip

    def __init__(self, turn: Turn, tag: int, item: bytes, stream: TextStream | None) -> None:
        self.turn = turn
        self.tag = tag
        self.item = item
        self.size = len(item) if stream is None else 0  # a stream has reserved its room
        self.stream = stream
        self.future: asyncio.Future[CommandResult] | None = None
        self.tries = 0
        self.waits = False  # the sidecar answers when something happens
        self.timer: asyncio.TimerHandle | None = None
        self.sent = False  # the sidecar may have it
        self.dropped = False


class _Ending:
    """An outcome that is not acknowledged yet."""

    __slots__ = ("item", "turn")

    def __init__(self, turn: Turn, item: bytes) -> None:
        self.turn = turn
        self.item = item


class Outbox:
    """Commands, deltas and outcomes: the order of calls is the order of effect.

    It does no I/O. The line takes batches from it with `take`, hands answers to it, and calls
    `restart` for every new stream: what is unanswered is then taken again, first and in order.
    """

    def __init__(self, kick: Callable[[], None], stream_interval: float) -> None:
        self.limits = Limits()
        self.window = Window(
            self.limits.max_commands_in_flight, self.limits.max_bytes_in_flight, self._on_room
        )
        self.new_id = RequestIds()
        self._kick = kick
        self._tag = 0
        self._queue: deque[Command | TextStream | _Ending] = deque()
        self._pending: dict[int, Command] = {}
        self._streams: dict[str, TextStream] = {}
        self._blocked: list[TextStream] = []
        self._endings: dict[tuple[str, int], _Ending] = {}
        self._pacer = Pacer(stream_interval, self.mark)
        # Commands whose answer the sidecar holds back, also where nobody waits for it any more.
        self.waits = 0
        self._closed = False

    # What handlers send.

    async def call(self, turn: Turn, frame: HandlerFrame, *, waits: bool = False) -> CommandResult:
        """Sends a command and returns its result; raises what the sidecar's error means.

        With `waits` the command counts as one until the sidecar has answered it. It is sent until
        it is answered, also where nobody waits for that any more: see `begin`.
        """
        command = await self.begin(turn, frame, waits=waits)
        assert command.future is not None
        return await command.future

    async def begin(self, turn: Turn, frame: HandlerFrame, *, waits: bool = False) -> Command:
        """Sends a command and returns it, whose future has the result; else as `call`.

        Who does not wait for that future may `give_up` the command.
        """
        turn.check()
        self._check_open()
        command = self._command(turn, frame, None)
        if not self.window.try_take(1, command.size):
            await self.window.take(1, command.size)
            try:
                turn.check()
                self._check_open()
            except CapsuleError:
                self.window.give(1, command.size)
                raise
        command.future = asyncio.get_running_loop().create_future()
        command.waits = waits
        self.waits += waits
        self._push(command)
        return command

    def give_up(self, command: Command) -> None:
        """Sends a command no more that nobody waits for; one that is answered is left alone."""
        if self._pending.get(command.tag) is not command:
            return
        command.dropped = True
        if command.timer is not None:  # the sidecar has answered that it does not do it now
            command.timer.cancel()
        elif command.sent:
            return  # it keeps its room until its answer comes, or another line
        else:
            self._queue.remove(command)
        del self._pending[command.tag]
        self._settle(command)

    def enqueue(self, turn: Turn, frame: HandlerFrame, stream: TextStream) -> Command:
        """Sends a stream's own command, for which it has reserved room and takes the answer."""
        command = self._command(turn, frame, stream)
        self._push(command)
        return command

    def open_stream(self, stream: TextStream, frame: HandlerFrame) -> Command:
        """Sends a stream's opening and keeps the stream until it is forgotten."""
        self._streams[stream.stream_id] = stream
        return self.enqueue(stream.turn, frame, stream)

    def forget(self, stream: TextStream) -> None:
        """Forgets a stream that has ended."""
        self._streams.pop(stream.stream_id, None)
        self._pacer.forget(stream)

    def mark(self, stream: TextStream) -> None:
        """Puts a stream in line for its next delta."""
        if not stream.marked:
            stream.marked = True
            self._queue.append(stream)
            self._kick()

    def pace(self, stream: TextStream) -> None:
        """Puts a stream in line at the next tick."""
        if not stream.marked:
            self._pacer.add(stream)

    def block(self, stream: TextStream) -> None:
        """Puts a stream in line when there is room in the windows."""
        self._blocked.append(stream)

    def end(self, turn: Turn, outcome: Outcome) -> None:
        """Sends an outcome behind all that its turn has sent, again until it is acknowledged.

        Raises LimitExceeded where it is larger than a gRPC message may be.
        """
        ending = _Ending(turn, self._encode(HandlerFrame(outcome=outcome)))
        self._endings[turn.key] = ending
        self._queue.append(ending)
        self._kick()

    def repeat_outcome(self, key: tuple[str, int]) -> bool:
        """Sends an outcome again that was not acknowledged; says whether there is one."""
        ending = self._endings.get(key)
        if ending is not None and ending not in self._queue:
            self._queue.append(ending)
            self._kick()
        return ending is not None

    def outcome_taken(self, key: tuple[str, int]) -> Turn | None:
        """Takes the acknowledgement of an outcome; returns the turn that it ends."""
        ending = self._endings.pop(key, None)
        return None if ending is None else ending.turn

    @property
    def outcomes(self) -> list[tuple[str, int]]:
        """The invocations and attempts of outcomes that are not acknowledged."""
        return list(self._endings)

    def drop(self, turn: Turn, error: CapsuleError) -> None:
        """Sends nothing more for a turn; whoever waits for an answer gets `error`."""
        for command in self._pending.values():
            if command.turn is turn and not command.dropped:
                command.dropped = True
                self._fail(command, error)
        for stream in list(turn.streams.values()):
            stream.fail(error)
        self._endings.pop(turn.key, None)

    # What the line takes and brings.

    def take(self) -> list[bytes]:
        """Returns the frames of the next batch; empty where nothing may be sent."""
        batch: list[bytes] = []
        room = _frames.MAX_BATCH_BYTES
        queue = self._queue
        while queue:
            head = queue[0]
            if isinstance(head, TextStream):
                if batch and room < _STREAM_ROOM:
                    break
                queue.popleft()
                head.marked = False
                item = head.take(room)
                if item is None:
                    continue
            else:
                if self._is_void(head):
                    queue.popleft()
                    continue
                item = head.item
                if batch and len(item) > room:
                    break
                queue.popleft()
                if isinstance(head, Command):
                    head.sent = True
            batch.append(item)
            room -= len(item)
            if room <= 0:
                break
        return batch

    def restart(self) -> None:
        """Begins anew on a new stream to the sidecar."""
        commands = self._pending.values()
        unanswered = {command.stream for command in commands if command is _opening_of(command)}
        pending: dict[int, Command] = {}
        self._queue.clear()
        self._blocked.clear()
        for stream in self._streams.values():
            stream.restart()
            if stream not in unanswered and stream.open_command is not None:
                pending[stream.open_command.tag] = stream.open_command
        for command in commands:
            if command.dropped:
                self._settle(command)
            else:
                pending[command.tag] = command
        self._pending = pending
        for command in pending.values():
            if command.timer is not None:
                command.timer.cancel()
                command.timer = None
            self._queue.append(command)
            if command is _opening_of(command) and command.stream is not None:
                self.mark(command.stream)
        self._queue.extend(self._endings.values())
        self.window.resize(self.limits.max_commands_in_flight, self.limits.max_bytes_in_flight)
        self._kick()

    def requeue(self, command: Command) -> None:
        """Sends a command again."""
        command.timer = None
        if command.tag in self._pending:
            self._queue.append(command)  # also one that was dropped, to be settled in its place
            self._kick()

    def answered(self, result: CommandResult) -> None:
        """Takes a command's result."""
        command = self._pending.get(result.tag)
        if command is None:
            return
        if result.HasField("error"):
            self._refused(command, from_status(result.error))
            return
        del self._pending[result.tag]
        self._settle(command)
        if command.stream is not None:
            command.stream.answered(command, result)
        elif command.future is not None and not command.future.done():
            command.future.set_result(result)

    def stream_durable(self, ack: StreamAck) -> None:
        """Takes the durable place of a stream."""
        stream = self._streams.get(ack.stream_id)
        if stream is not None:
            stream.acknowledge(ack.revision, ack.position)

    def stream_refused(self, refusal: StreamRefused) -> None:
        """Takes the refusal of a delta."""
        stream = self._streams.get(refusal.stream_id)
        if stream is not None:
            stream.refused(from_status(refusal.error))

    def close(self) -> None:
        """Ends all timers and fails what still waits."""
        self._closed = True
        self._pacer.close()
        for command in list(self._pending.values()):
            if command.timer is not None:
                command.timer.cancel()
            self._fail(command, _detached())
        for stream in list(self._streams.values()):
            stream.fail(_detached())
        self.window.fail(_detached)

    # Inside.

    def _check_open(self) -> None:
        if self._closed:
            raise _detached()

    def _command(self, turn: Turn, frame: HandlerFrame, stream: TextStream | None) -> Command:
        self._tag = tag = self._tag + 1
        frame.command.tag = tag
        return Command(turn, tag, self._encode(frame), stream)

    def _encode(self, frame: HandlerFrame) -> bytes:
        item = _frames.encode(frame)
        if len(item) > self.limits.max_message_bytes - _FRAME_SLACK:
            raise LimitExceeded(
                f"a request of {len(item)} bytes is larger than a gRPC message may be",
                reason="LIMIT_EXCEEDED",
                metadata={"limit": "message", "maximum": str(self.limits.max_message_bytes)},
            )
        return item

    def _push(self, command: Command) -> None:
        self._pending[command.tag] = command
        self._queue.append(command)
        self._kick()

    def _is_void(self, head: Command | _Ending) -> bool:
        if isinstance(head, Command):
            if head.dropped and self._pending.pop(head.tag, None) is not None:
                self._settle(head)
            return head.tag not in self._pending
        return self._endings.get(head.turn.key) is not head

    def _refused(self, command: Command, error: CapsuleError) -> None:
        stream = command.stream
        opening = command is _opening_of(command)
        if stream is not None and not opening and stream.retries(command):
            return
        if isinstance(error, Unavailable) and not command.dropped:
            command.tries += 1
            if command.tries < _TRIES:
                if stream is not None and opening:
                    stream.syncing = True
                delay = min(_FIRST_DELAY * 2**command.tries, _MAX_DELAY)
                delay *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, hides nothing
                loop = asyncio.get_running_loop()
                command.timer = loop.call_later(delay, self.requeue, command)
                return
        del self._pending[command.tag]
        self._settle(command)
        if stream is not None:
            stream.failed(command, error)
        else:
            self._fail(command, error)

    def _settle(self, command: Command) -> None:
        self.waits -= command.waits
        if command.stream is None:
            self.window.give(1, command.size)

    @staticmethod
    def _fail(command: Command, error: CapsuleError) -> None:
        future = command.future
        if future is not None and not future.done():
            future.set_exception(error)

    def _on_room(self) -> None:
        if self._blocked:
            blocked, self._blocked = self._blocked, []
            for stream in blocked:
                self.mark(stream)


def _detached() -> Unavailable:
    return Unavailable("the app has detached from the sidecar", reason=DETACHED)


def _opening_of(command: Command) -> Command | None:
    """Returns the command that opens the stream of `command`, where it has one."""
    return None if command.stream is None else command.stream.open_command

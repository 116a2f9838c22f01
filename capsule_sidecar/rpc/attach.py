"""One Attach: a reader that never waits for storage, a writer that drains what there is."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import types_pb2
from capsule_sidecar import __version__
from capsule_sidecar.batching import Outbox
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import (
    DomainError,
    IncompatibleVersion,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    UnknownCommand,
)
from capsule_sidecar.model.ids import parse_request_id
from capsule_sidecar.model.types import CancelReason, InvocationStatus, Lease
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.calls import CALLS, append_stream
from capsule_sidecar.rpc.errors import status_of
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.runtime.dispatcher import Dispatcher
from capsule_sidecar.runtime.processes import Process, ProcessLine
from capsule_sidecar.storage.encoding import field_bytes
from capsule_sidecar.storage.leases import Attached

logger = logging.getLogger("capsule.attach")

_HELLO_SECONDS = 15.0
_FRAMES = 0x0A  # field 1 of AttachResponse
_RESULT = 0x22  # field 4 of SidecarFrame


class AttachLine(ProcessLine):
    """What a process is told, as frames of its Attach.

    Args:
        limits: Its windows.
        timing: Its beats.
    """

    def __init__(self, limits: Limits, timing: Timing) -> None:
        outbox = Outbox(max_bytes=4 * limits.bytes_in_flight, batch_bytes=limits.batch_bytes)
        super().__init__(outbox)
        self._limits = limits
        self._timing = timing

    def welcome(self, found: Attached) -> None:
        """Tell what the process keeps, what it has lost and what it is to keep to."""
        limits = self._limits
        welcome = pb.Welcome(
            sidecar_version=__version__,
            protocol_version=convert.PROTOCOL_VERSION,
            limits=pb.Limits(
                beat_interval=_duration(self._timing.beat_interval),
                lease_term=_duration(self._timing.lease_term),
                max_commands_in_flight=limits.commands_in_flight,
                max_bytes_in_flight=limits.bytes_in_flight,
                stream_window_bytes=limits.stream_window_bytes,
                max_text_bytes=limits.max_text_bytes,
                max_block_bytes=limits.max_block_bytes,
                max_data_bytes=limits.max_data_bytes,
                max_message_bytes=limits.max_message_bytes,
                max_file_bytes=limits.max_file_bytes,
            ),
            kept=[_lease(entry) for entry in found.kept],
            superseded=[_lease(entry) for entry in found.superseded],
        )
        self.put(pb.SidecarFrame(welcome=welcome))

    def put(self, frame: pb.SidecarFrame) -> None:
        """Queue a frame; a process that does not read is let go."""
        self.send(field_bytes(_FRAMES, frame.SerializeToString()))

    def send(self, frame: bytes) -> None:
        """Queue an encoded frame."""
        if not self.outbox.put(frame):
            self.outbox.fail(
                LimitExceeded("outbox", 0, "the process does not read what it is sent")
            )

    def cancel(self, lease: Lease, reason: CancelReason) -> None:
        """Tell that an attempt is to end."""
        self.put(
            pb.SidecarFrame(
                cancel=pb.Cancel(
                    invocation_id=lease.invocation_id,
                    attempt=lease.attempt,
                    reason=int(reason),  # type: ignore[arg-type]  # enum values are ints on the wire
                )
            )
        )

    def durable(self, stream_id: str, revision: int, position: int) -> None:
        """Tell how far a stream is durable."""
        ack = pb.StreamAck(stream_id=stream_id, revision=revision, position=position)
        self.put(pb.SidecarFrame(stream_ack=ack))

    def resolved(self, lease: Lease, prompt_id: str, prompt: bytes) -> None:
        """Tell how a prompt, encoded, has ended."""
        self.told.add(prompt_id)
        self.put(
            pb.SidecarFrame(
                prompt_resolved=pb.PromptResolved(
                    invocation_id=lease.invocation_id,
                    attempt=lease.attempt,
                    prompt=types_pb2.Prompt.FromString(prompt),
                )
            )
        )

    def drain(self) -> None:
        """Tell that the sidecar takes its leave."""
        self.put(pb.SidecarFrame(drain=pb.Drain()))


class Attachment:
    """The line of one process, from its hello to its end.

    Args:
        dispatcher: Who gives it work.
        commands: What its handlers may do.
        limits: Its windows.
        timing: Its beats.
    """

    def __init__(
        self, dispatcher: Dispatcher, commands: Commands, limits: Limits, timing: Timing
    ) -> None:
        self._dispatcher = dispatcher
        self._commands = commands
        self._limits = limits
        self._line = AttachLine(limits, timing)
        self._outbox = self._line.outbox
        self._in_flight = 0
        self._bytes = 0
        self._reads: set[asyncio.Task[Any]] = set()
        self._refused: set[str] = set()
        # Ends of prompts that this batch of frames acknowledges.
        self._taken: list[str] = []

    async def run(self, context: Context) -> None:
        """Serve the line until either side ends it.

        Raises:
            DomainError: Why the sidecar ended it.
        """
        first = await self._first(context)
        hello = self._hello(first.frames[0] if first.frames else None)
        try:
            await self._dispatcher.attach(hello, self._line)
            assert self._line.process is not None
            self._commands.collections.declare(
                self._line.process.app, hello.declarations.collections
            )
            await self._serve(context, self._line.process, list(first.frames)[1:])
        finally:
            self._line.gone = True
            if self._line.process is not None:
                self._dispatcher.detach(self._line.process)
            for task in self._reads:
                task.cancel()
            await asyncio.gather(*self._reads, return_exceptions=True)

    async def _first(self, context: Context) -> pb.AttachRequest:
        try:
            first = await asyncio.wait_for(context.read(), _HELLO_SECONDS)
        except TimeoutError:
            raise InvalidArgument("frames", "no Hello came within 15 s") from None
        if first is grpc.aio.EOF:
            raise InvalidArgument("frames", "the first frame must be a Hello")
        assert isinstance(first, pb.AttachRequest)
        return first

    def _hello(self, frame: pb.HandlerFrame | None) -> Any:
        if frame is None or frame.WhichOneof("frame") != "hello":
            raise InvalidArgument("frames", "the first frame must be a Hello")
        hello = frame.hello
        caller = principal()
        caller.require_handler()
        if hello.protocol_version != convert.PROTOCOL_VERSION:
            # Versions are counted; a client that says none is older than the counting.
            told = hello.protocol_version
            older = not told.isdecimal() or int(told) < int(convert.PROTOCOL_VERSION)
            raise IncompatibleVersion(
                f"{hello.client_name or 'the client'} {hello.client_version} speaks protocol"
                f" {hello.protocol_version!r}, this sidecar ({__version__})"
                f" {convert.PROTOCOL_VERSION!r}: upgrade the {'client' if older else 'sidecar'}",
                sidecar_protocol=convert.PROTOCOL_VERSION,
            )
        parse_request_id(hello.process_id, "hello.process_id")
        caller.grant.check_app(hello.app, "hello.app")
        if caller.app and hello.app != caller.app:
            raise InvalidArgument("hello.app", f"must be the metadata's app, {caller.app!r}")
        return convert.hello(
            hello, hello.app, self._limits.max_concurrency, self._limits.default_concurrency
        )

    async def _serve(
        self, context: Context, process: Process, frames: list[pb.HandlerFrame]
    ) -> None:
        reader = asyncio.create_task(self._read(context, process, frames), name="attach-reader")
        try:
            while (batch := await self._outbox.drain()) is not None:
                await context.write(batch)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(
        self, context: Context, process: Process, frames: list[pb.HandlerFrame]
    ) -> None:
        try:
            while True:
                for frame in frames:
                    self._frame(process, frame)
                self._acknowledge(process)
                request = await context.read()
                if request is grpc.aio.EOF:
                    self._outbox.finish()
                    return
                frames = request.frames
        except DomainError as error:
            self._outbox.fail(error)
        except asyncio.CancelledError:
            raise
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            self._outbox.finish()  # the peer is gone; it attaches again
        except Exception as error:  # noqa: BLE001 - the guard tells and logs it by the one table
            self._outbox.fail(error)

    def _frame(self, process: Process, frame: pb.HandlerFrame) -> None:
        match frame.WhichOneof("frame"):
            case "command":
                self._command(process, frame.command)
            case "outcome":
                self._outcome(process, frame.outcome)
            case "beat":
                self._beat(process, frame.beat.number)
            case "prompt_ack":
                # What it was not told is passed over: acknowledgements are bounded by that.
                if frame.prompt_ack.prompt_id in self._line.told:
                    self._line.told.discard(frame.prompt_ack.prompt_id)
                    self._taken.append(frame.prompt_ack.prompt_id)
            case "drain":
                self._dispatcher.drain(process)
            case "hello":
                raise InvalidArgument("frames", "a Hello comes once")
            case _:
                pass  # a newer client's frame

    def _acknowledge(self, process: Process) -> None:
        if self._taken:
            taken, self._taken = self._taken, []
            self._commands.prompting.acknowledge(process.app, taken)

    # -- commands
    # ------------------------------------------------------------------------------------

    def _command(self, process: Process, command: pb.Command) -> None:
        name = command.WhichOneof("request")
        if command.tag == 0:
            self._delta(process, command, name)
            return
        size = command.ByteSize()
        self._in_flight += 1
        self._bytes += size
        if (
            self._in_flight > self._limits.commands_in_flight
            or self._bytes > self._limits.bytes_in_flight
        ):
            raise LimitExceeded(
                "commands_in_flight",
                self._limits.commands_in_flight,
                "more commands or bytes are in flight than the welcome allows",
            )
        try:
            call = CALLS.get(name or "")
            if call is None or name is None:
                raise UnknownCommand("this sidecar does not know the command; upgrade it")
            waited = call.begin(self._commands, process.app, getattr(command, name))
        except DomainError as error:
            self._failed(command.tag, size, error)
            return
        if isinstance(waited, asyncio.Future):
            future = waited
        else:
            task = asyncio.ensure_future(waited)
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)
            future = task
        future.add_done_callback(partial(self._answered, command.tag, size, name))

    def _delta(self, process: Process, command: pb.Command, name: str | None) -> None:
        if name != "append_stream":
            raise InvalidArgument("command.tag", "only append_stream goes without a tag")
        request = command.append_stream
        if request.stream_id in self._refused:
            return
        try:
            append_stream(self._commands, process.app, request, self._refuse)
        except DomainError as error:
            self._refuse(request.stream_id, error)
            return
        window = self._limits.stream_window_bytes
        if self._commands.streams.unsaved(request.stream_id) > window:
            raise LimitExceeded(
                "stream_window_bytes",
                window,
                "more text of a stream is unacknowledged than the welcome allows",
            )

    def _refuse(self, stream_id: str, error: DomainError) -> None:
        if stream_id in self._refused:
            return
        if len(self._refused) >= 10_000:
            self._refused.clear()
        self._refused.add(stream_id)
        refused = pb.StreamRefused(stream_id=stream_id, error=status_of(error))
        self._line.put(pb.SidecarFrame(stream_refused=refused))

    def _answered(self, tag: int, size: int, name: str, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed(tag, size, error)
            return
        if name == "open_stream":
            self._refused.discard(future.result().stream_id)
        result = pb.CommandResult(tag=tag)
        getattr(result, name).CopyFrom(CALLS[name].answer(future.result()))
        self._result(result, size)

    def _failed(self, tag: int, size: int, error: BaseException) -> None:
        status: status_pb2.Status = status_of(error)
        self._result(pb.CommandResult(tag=tag, error=status), size)

    def _result(self, result: pb.CommandResult, size: int) -> None:
        self._in_flight -= 1
        self._bytes -= size
        self._line.send(field_bytes(_FRAMES, field_bytes(_RESULT, result.SerializeToString())))

    # -- outcomes and beats
    # -----------------------------------------------------------------------------

    def _outcome(self, process: Process, value: pb.Outcome) -> None:
        outcome = convert.outcome(value)
        self._dispatcher.outcome(process.app, outcome).add_done_callback(
            partial(self._ended, outcome.lease)
        )

    def _ended(self, lease: Lease, future: asyncio.Future[InvocationStatus]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, NotFound):
            status = InvocationStatus.STOPPED  # its session was deleted
        elif error is not None:
            # It is not durable, so it is not acknowledged: the process sends it again.
            logger.warning("an outcome could not be applied: %s", error)
            self._outbox.fail(error)
            return
        else:
            status = future.result()
        ack = pb.OutcomeAck(
            invocation_id=lease.invocation_id,
            attempt=lease.attempt,
            status=int(status),  # type: ignore[arg-type]  # enum values are ints on the wire
        )
        self._line.put(pb.SidecarFrame(outcome_ack=ack))

    def _beat(self, process: Process, number: int) -> None:
        self._dispatcher.beat(process).add_done_callback(partial(self._beaten, number))

    def _beaten(self, number: int, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._line.put(pb.SidecarFrame(beat_ack=pb.BeatAck(number=number)))
        elif isinstance(error, NotFound):
            self._outbox.fail(error)  # its leases ended: it is to attach again
        # Any other failure leaves the beat unanswered: the process counts from the last one that
        # was.


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def _lease(entry: Lease) -> pb.Lease:
    return pb.Lease(invocation_id=entry.invocation_id, attempt=entry.attempt)

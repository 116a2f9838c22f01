"""A sidecar that a test holds in its hand: a real gRPC server on a real socket, without storage.

It answers as the protocol says it may, remembers what it was told, and can be told to be silent,
to refuse, to cut the line and to come back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import handler_service_pb2_grpc, types_pb2
from tests.support.eventually import eventually

TOKEN = "fake-token"


def status(code: str, reason: str, message: str = "", **metadata: str) -> status_pb2.Status:
    """Returns an error as the sidecar sends it, as `status("UNAVAILABLE", "SHUTTING_DOWN")`."""
    answer = status_pb2.Status(code=code_pb2.Code.Value(code), message=message or reason)
    info = error_details_pb2.ErrorInfo(reason=reason, domain="capsule.dev", metadata=metadata)
    answer.details.add().Pack(info)
    return answer


def message(text: str, sender: str = "user", **fields: Any) -> types_pb2.Message:
    """Returns a message of `sender`, `user` or `app`."""
    kind = types_pb2.SENDER_USER if sender == "user" else types_pb2.SENDER_APP
    return types_pb2.Message(message_id=f"m-{text[:8]}", sender=kind, text=text, **fields)


@dataclass
class FakeStream:
    """A reply stream as the sidecar has it; `durable` is what a restart would keep."""

    text: str = ""
    revision: int = 0
    durable: tuple[int, str] = (0, "")
    opened: int = 0
    completed: pb.CommandResult | None = None
    interrupted: bool = False
    appends: list[pb.Command] = field(default_factory=list)


@dataclass
class FakeLine:
    """One Attach: what came, in order, and a way to send."""

    number: int
    hello: pb.Hello
    metadata: dict[str, str]
    frames: list[pb.HandlerFrame] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    open: bool = True
    muted: bool = False  # what is sent is lost
    outgoing: asyncio.Queue[pb.SidecarFrame | grpc.StatusCode | None] = field(
        default_factory=lambda: asyncio.Queue(100_000)
    )

    def send(self, *frames: pb.SidecarFrame) -> None:
        """Sends frames to the process."""
        if not self.muted:
            for frame in frames:
                self.outgoing.put_nowait(frame)

    def cut(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Ends the line by an error."""
        self.outgoing.put_nowait(code)

    def commands(self, kind: str = "") -> list[pb.Command]:
        """Returns the commands that came, all or those of one kind."""
        found = [frame.command for frame in self.frames if frame.HasField("command")]
        return [one for one in found if not kind or one.WhichOneof("request") == kind]

    def outcomes(self) -> list[pb.Outcome]:
        """Returns the outcomes that came."""
        return [frame.outcome for frame in self.frames if frame.HasField("outcome")]

    def kinds(self) -> list[str]:
        """Returns what came, in order: a command by its request, else the frame; no beats."""
        names = (
            frame.command.WhichOneof("request")
            if frame.HasField("command")
            else frame.WhichOneof("frame")
            for frame in self.frames
        )
        return [name or "" for name in names if name != "beat"]


class FakeSidecar(handler_service_pb2_grpc.HandlerServiceServicer):
    """`async with FakeSidecar() as sidecar` serves on a free port of the loopback.

    Set the switches before the process attaches, or in between: `answer_*` say what is answered by
    itself, `refuse` may return an error for a command, `limits` and `superseded` go to the welcome.
    """

    def __init__(self, *, beat_interval: float = 3.0, lease_term: float = 15.0) -> None:
        self.limits = pb.Limits(
            beat_interval=_duration(beat_interval), lease_term=_duration(lease_term)
        )
        self.answer_hello = True
        self.answer_beats = True
        self.answer_commands = True
        self.answer_outcomes = True
        self.checkpoint = True  # acknowledges every delta as durable
        self.refuse: Callable[[pb.Command], status_pb2.Status | None] = lambda _: None
        self.refuse_attach: Callable[[pb.Hello], status_pb2.Status | None] = lambda _: None
        self.superseded: set[tuple[str, int]] = set()
        self.lines: list[FakeLine] = []
        self.beats: list[str] = []
        self.replies: list[str] = []
        self.streams: dict[str, FakeStream] = {}
        self.outcomes: dict[tuple[str, int], pb.Outcome] = {}
        self.answers: dict[str, pb.CommandResult] = {}
        self.port = 0
        self._ids = itertools.count(1)
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> FakeSidecar:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves: on a free port first, on the same one when it is started again."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler_service_pb2_grpc.add_HandlerServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Ends like a process that is killed: what was not durable is gone."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
        for stream in self.streams.values():
            stream.revision, stream.text = stream.durable

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self.port}"

    @property
    def line(self) -> FakeLine:
        """The newest line."""
        return self.lines[-1]

    async def attached(self, count: int = 1) -> FakeLine:
        """Waits for the line number `count` and returns it."""
        await eventually(lambda: len(self.lines) >= count, message=f"attach {count}")
        return self.lines[count - 1]

    def invoke(self, text: str = "hello", **fields: Any) -> pb.Invocation:
        """Sends a turn and returns it."""
        invocation = self.invocation(turn=pb.Turn(message=message(text)), **fields)
        self.line.send(pb.SidecarFrame(invocation=invocation))
        return invocation

    def invocation(self, **fields: Any) -> pb.Invocation:
        """Returns an invocation, by default the first attempt of a new one."""
        fields.setdefault("invocation_id", f"i-{next(self._ids)}")
        fields.setdefault("attempt", 1)
        fields.setdefault(
            "session",
            types_pb2.Session(
                session_id="s-1",
                app="demo",
                user=types_pb2.UserInfo(user_id="u-1", email="ada@example.org"),
                channel=types_pb2.SessionChannel(type="terminal"),
            ),
        )
        return pb.Invocation(**fields)

    def cancel(self, of: pb.Invocation, reason: pb.CancelReason.ValueType) -> None:
        """Sends the word to end an invocation."""
        self.line.send(
            pb.SidecarFrame(
                cancel=pb.Cancel(invocation_id=of.invocation_id, attempt=of.attempt, reason=reason)
            )
        )

    async def outcome(self, of: pb.Invocation, *, timeout: float = 10) -> pb.Outcome:
        """Waits for the outcome of an invocation."""
        key = (of.invocation_id, of.attempt)
        await eventually(lambda: key in self.outcomes, timeout=timeout, message=f"outcome {key}")
        return self.outcomes[key]

    # The service.

    async def Attach(  # type: ignore[override]  # noqa: N802 - gRPC's name; it reads and writes by calls
        self, request_iterator: Any, context: Any
    ) -> None:
        """Serves one line."""
        first = (await context.read()).frames
        refusal = self.refuse_attach(first[0].hello)
        if refusal is not None:
            await _abort(context, refusal)
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        line = FakeLine(len(self.lines) + 1, first[0].hello, metadata)
        self.lines.append(line)
        if self.answer_hello:
            line.send(pb.SidecarFrame(welcome=self._welcome(line.hello)))
        reader = asyncio.create_task(self._read(line, first[1:], context))
        try:
            await self._write(line, context)
        finally:
            line.open = False
            reader.cancel()

    async def Beat(self, request: pb.BeatRequest, context: Any) -> pb.BeatResponse:  # noqa: N802
        """Takes a unary beat."""
        self.beats.append(request.process_id)
        return pb.BeatResponse(lease_term=self.limits.lease_term)

    def _welcome(self, hello: pb.Hello) -> pb.Welcome:
        welcome = pb.Welcome(sidecar_version="0", protocol_version="1", limits=self.limits)
        for lease in hello.leases:
            lost = (lease.invocation_id, lease.attempt) in self.superseded
            (welcome.superseded if lost else welcome.kept).append(lease)
        return welcome

    async def _read(self, line: FakeLine, first: Any, context: Any) -> None:
        frames = list(first)
        while True:
            line.frames.extend(frames)
            line.batches.append(len(frames))
            for frame in frames:
                self._take(line, frame)
            batch = await context.read()
            if batch is grpc.aio.EOF:
                line.outgoing.put_nowait(None)
                return
            frames = list(batch.frames)

    async def _write(self, line: FakeLine, context: Any) -> None:
        while True:
            batch = [await line.outgoing.get()]
            while not line.outgoing.empty():
                batch.append(line.outgoing.get_nowait())
            frames = [item for item in batch if isinstance(item, pb.SidecarFrame)]
            if frames:
                await context.write(pb.AttachResponse(frames=frames))
            for item in batch:
                if item is None:
                    return
                if isinstance(item, grpc.StatusCode):
                    await context.abort(item, "cut by the test")

    def _take(self, line: FakeLine, frame: pb.HandlerFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "beat" and self.answer_beats:
            line.send(pb.SidecarFrame(beat_ack=pb.BeatAck(number=frame.beat.number)))
        elif kind == "outcome":
            key = (frame.outcome.invocation_id, frame.outcome.attempt)
            self.outcomes.setdefault(key, frame.outcome)
            if self.answer_outcomes:
                line.send(
                    pb.SidecarFrame(outcome_ack=pb.OutcomeAck(invocation_id=key[0], attempt=key[1]))
                )
        elif kind == "command":
            self._command(line, frame.command)

    def _command(self, line: FakeLine, command: pb.Command) -> None:
        kind = command.WhichOneof("request") or ""
        request = getattr(command, kind)
        refusal = self.refuse(command)
        if kind == "append_stream":
            refusal = refusal or self._append(line, command.append_stream)
            if refusal is not None:
                refused = pb.StreamRefused(stream_id=request.stream_id, error=refusal)
                line.send(pb.SidecarFrame(stream_refused=refused))
            return
        if not self.answer_commands:
            return
        if refusal is not None:
            result = pb.CommandResult(error=refusal)
        elif kind == "open_stream":
            result = self._open(request)
        else:
            request_id = getattr(request, "request_id", "")
            result = self.answers.get(request_id) or self._do(kind, request)
            if request_id and not result.HasField("error"):
                self.answers[request_id] = result
        answer = pb.CommandResult()
        answer.CopyFrom(result)
        answer.tag = command.tag
        line.send(pb.SidecarFrame(command_result=answer))

    def _do(self, kind: str, request: Any) -> pb.CommandResult:
        result = pb.CommandResult()
        getattr(result, kind).SetInParent()
        if kind == "reply":
            self.replies.append(request.text)
        elif kind == "show_block":
            result.show_block.block_id = request.block.block_id or f"b-{next(self._ids)}"
        elif kind == "close_stream":
            stream = self.streams.get(request.stream_id)
            if stream is None:
                return pb.CommandResult(error=status("NOT_FOUND", "NOT_FOUND"))
            if request.HasField("length") and request.length != len(stream.text):
                return pb.CommandResult(error=status("DATA_LOSS", "DIGEST_MISMATCH"))
            stream.interrupted = request.interrupted
            result.close_stream.message.CopyFrom(message(stream.text, "app"))
            stream.completed = result
        return result

    def _open(self, request: Any) -> pb.CommandResult:
        stream = self.streams.setdefault(request.request_id, FakeStream())
        stream.opened += 1
        result = pb.CommandResult()
        result.open_stream.stream_id = request.request_id
        result.open_stream.revision = stream.durable[0]
        result.open_stream.position = len(stream.durable[1])
        if stream.completed is not None:
            result.open_stream.message.CopyFrom(stream.completed.close_stream.message)
        return result

    def _append(self, line: FakeLine, request: Any) -> status_pb2.Status | None:
        stream = self.streams.get(request.stream_id)
        if stream is None:
            return status("NOT_FOUND", "NOT_FOUND")
        if stream.completed is not None:
            return status("FAILED_PRECONDITION", "STREAM_CLOSED")
        stream.appends.append(request)
        if request.replace and request.revision > stream.revision:
            if request.position > len(stream.text):
                return status("OUT_OF_RANGE", "STREAM_GAP")
            stream.revision = request.revision
            stream.text = stream.text[: request.position]
        if request.revision > stream.revision or request.position > len(stream.text):
            return status("OUT_OF_RANGE", "STREAM_GAP")
        if request.revision == stream.revision:
            stream.text += request.text[len(stream.text) - request.position :]
        if self.checkpoint:
            stream.durable = (stream.revision, stream.text)
            ack = pb.StreamAck(
                stream_id=request.stream_id,
                revision=stream.revision,
                position=len(stream.text),
            )
            line.send(pb.SidecarFrame(stream_ack=ack))
        return None


async def _abort(context: Any, refusal: status_pb2.Status) -> None:
    codes = {code.value[0]: code for code in grpc.StatusCode}
    details = (("grpc-status-details-bin", refusal.SerializeToString()),)
    await context.abort(codes[refusal.code], refusal.message, trailing_metadata=details)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))

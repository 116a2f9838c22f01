"""A sidecar that a test holds in its hand: a real gRPC server on a real socket, without storage.

It answers as the protocol says it may, remembers what it was told, and can be told to be silent,
to refuse, to cut the line and to come back.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from capsule_protocol.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    handler_service_pb2_grpc,
    types_pb2,
)
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.ports import held_port, port_of

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
class FakeFiles(file_service_pb2_grpc.FileServiceServicer):
    """Files in memory. Each of `cuts` is how many bytes the next call moves before it is cut."""

    kept: dict[str, tuple[types_pb2.File, bytes]] = field(default_factory=dict)
    headers: list[file_service_pb2.UploadHeader] = field(default_factory=list)
    asked: list[file_service_pb2.DownloadFileRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    largest: int = 0  # bytes of the largest piece that came
    cuts: list[int] = field(default_factory=list)
    refusals: list[status_pb2.Status] = field(default_factory=list)
    piece: int = 64 * 1024
    silent: bool = False  # downloads give nothing, and do not end

    def put(
        self, data: bytes, name: str = "notes.txt", content_type: str = "text/plain"
    ) -> types_pb2.Attachment:
        """Keeps a file and returns it as a message names it."""
        file = types_pb2.File(
            file_id=f"fil_{len(self.kept) + 1}",
            name=name,
            content_type=content_type,
            size=len(data),
            sha256=hashlib.sha256(data).digest(),
        )
        self.kept[file.file_id] = (file, data)
        return types_pb2.Attachment(
            file_id=file.file_id,
            name=name,
            content_type=content_type,
            size=len(data),
            url="http://fake/file",
        )

    async def UploadFile(  # noqa: N802 - gRPC's name; it reads by calls
        self, request_iterator: Any, context: Any
    ) -> file_service_pb2.UploadFileResponse:
        """Takes a file."""
        await self._begin(context)
        header = (await context.read()).header
        self.headers.append(header)
        known = [one for one in self.headers[:-1] if one.request_id == header.request_id]
        cut = self.cuts.pop(0) if self.cuts else None
        data = bytearray()
        while (request := await context.read()) is not grpc.aio.EOF:
            self.largest = max(self.largest, len(request.data))
            data += request.data
            if cut is not None and len(data) >= cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")
        assert not known or known[-1] == header
        assert not header.HasField("size") or header.size == len(data)
        assert not header.sha256 or header.sha256 == hashlib.sha256(data).digest()
        attachment = self.put(bytes(data), header.name, header.content_type)
        return file_service_pb2.UploadFileResponse(file=self.kept[attachment.file_id][0])

    async def GetFile(  # noqa: N802 - gRPC's name
        self, request: file_service_pb2.GetFileRequest, context: Any
    ) -> file_service_pb2.GetFileResponse:
        """Describes a file."""
        return file_service_pb2.GetFileResponse(file=self.kept[request.file_id][0])

    async def DownloadFile(  # type: ignore[override]  # noqa: N802 - gRPC's name; it writes by calls
        self, request: file_service_pb2.DownloadFileRequest, context: Any
    ) -> None:
        """Gives a file."""
        self.asked.append(request)
        await self._begin(context)
        if self.silent:
            await asyncio.Event().wait()
        if request.file_id not in self.kept:
            await _abort(context, status("NOT_FOUND", "NOT_FOUND"))
        file, data = self.kept[request.file_id]
        cut = self.cuts.pop(0) if self.cuts else None
        end = len(data) if cut is None else request.offset + cut
        await context.write(file_service_pb2.DownloadFileResponse(file=file))
        for at in range(request.offset, end, self.piece):
            piece = data[at : min(at + self.piece, end)]
            await context.write(file_service_pb2.DownloadFileResponse(data=piece))
        if cut is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the test")

    async def _begin(self, context: Any) -> None:
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self.refusals:
            await _abort(context, self.refusals.pop(0))


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

    def acks(self) -> list[str]:
        """Returns the prompts whose ends were acknowledged."""
        return [one.prompt_ack.prompt_id for one in self.frames if one.HasField("prompt_ack")]

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
        self.files = FakeFiles()
        self.prompts: dict[str, types_pb2.Prompt] = {}
        self.asked: dict[str, pb.Command] = {}  # the command that opened a prompt
        self.unacknowledged: dict[str, pb.PromptResolved] = {}
        self.port = 0
        self._held: socket.socket | None = None
        self._ids = itertools.count(1)
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> FakeSidecar:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
        if self._held is not None:
            self._held.close()

    async def start(self) -> None:
        """Serves: on a free port first, on the same one when it is started again."""
        if self._held is None:  # nobody else is given it while this is stopped
            self._held = held_port()
            self.port = port_of(self._held)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler_service_pb2_grpc.add_HandlerServiceServicer_to_server(self, self._server)
        file_service_pb2_grpc.add_FileServiceServicer_to_server(self.files, self._server)
        assert self._server.add_insecure_port(self.address) == self.port
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
        # A process may have to be started for it, and load.
        await eventually(lambda: len(self.lines) >= count, timeout=30, message=f"attach {count}")
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

    async def prompt(self, count: int = 1) -> types_pb2.Prompt:
        """Waits for the prompt number `count` and returns it."""
        await eventually(lambda: len(self.prompts) >= count, message=f"prompt {count}")
        return list(self.prompts.values())[count - 1]

    def end_prompt(
        self,
        prompt: types_pb2.Prompt,
        answer: Any = None,
        status: types_pb2.PromptStatus.ValueType = types_pb2.PROMPT_STATUS_ANSWERED,
        *,
        tell: bool = True,
    ) -> pb.SidecarFrame:
        """Ends a prompt and tells the process, now and on every attach until it acknowledges."""
        prompt.status = status
        kind = prompt.WhichOneof("kind")
        if answer is not None and kind == "file":
            prompt.file.answer.CopyFrom(answer)
        elif answer is not None:
            getattr(prompt, str(kind)).answer = answer
        command = self.asked[prompt.prompt_id]
        request = getattr(command, command.WhichOneof("request") or "")
        resolved = pb.PromptResolved(
            invocation_id=request.invocation_id, attempt=request.attempt, prompt=prompt
        )
        self.unacknowledged[prompt.prompt_id] = resolved
        frame = pb.SidecarFrame(prompt_resolved=resolved)
        if tell:
            self.line.send(frame)
        return frame

    async def outcome(self, of: pb.Invocation, *, timeout: float = 20) -> pb.Outcome:
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
            welcome = self._welcome(line.hello)
            line.send(pb.SidecarFrame(welcome=welcome))
            kept = {lease.invocation_id for lease in welcome.kept}
            for resolved in self.unacknowledged.values():
                if resolved.invocation_id in kept:
                    line.send(pb.SidecarFrame(prompt_resolved=resolved))
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
        elif kind == "prompt_ack":
            self.unacknowledged.pop(frame.prompt_ack.prompt_id, None)
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
            result = self.answers.get(request_id) or self._do(kind, command)
            if request_id and not result.HasField("error"):
                self.answers[request_id] = result
        answer = pb.CommandResult()
        answer.CopyFrom(result)
        answer.tag = command.tag
        line.send(pb.SidecarFrame(command_result=answer))

    def _do(self, kind: str, command: pb.Command) -> pb.CommandResult:
        request: Any = getattr(command, kind)
        result = pb.CommandResult()
        getattr(result, kind).SetInParent()
        if kind == "reply":
            self.replies.append(request.text)
        elif kind == "show_block":
            result.show_block.block_id = request.block.block_id or f"b-{next(self._ids)}"
        elif kind == "show_image":
            if request.file_id not in self.files.kept:
                return pb.CommandResult(error=status("NOT_FOUND", "NOT_FOUND"))
            result.show_image.block_id = f"b-{next(self._ids)}"
        elif kind.startswith("prompt_"):
            getattr(result, kind).prompt.CopyFrom(self._prompt(kind, command))
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

    def _prompt(self, kind: str, command: pb.Command) -> types_pb2.Prompt:
        """Joins the prompt that an earlier attempt opened with the same words, or opens one."""
        request: Any = getattr(command, kind)
        for prompt_id, earlier in self.asked.items():
            if earlier.WhichOneof("request") == kind:
                before: Any = getattr(earlier, kind)
                same = (before.invocation_id, before.message)
                if same == (request.invocation_id, request.message) and (
                    before.attempt < request.attempt
                ):
                    self.asked[prompt_id] = command
                    return self.prompts[prompt_id]
        prompt = types_pb2.Prompt(
            prompt_id=f"prm_{next(self._ids)}",
            message=request.message,
            status=types_pb2.PROMPT_STATUS_OPEN,
        )
        getattr(prompt, kind.removeprefix("prompt_")).SetInParent()
        if kind == "prompt_choice":
            prompt.choice.options.extend(request.options)
        self.prompts[prompt.prompt_id] = prompt
        self.asked[prompt.prompt_id] = command
        return prompt

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

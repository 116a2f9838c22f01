"""A real sidecar on a real socket, and the two who talk to it: a person and a bare handler.

`running_sidecar` serves in the test's own loop; `SidecarProcess` is one that can be killed and
frozen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import (
    admin_service_pb2_grpc,
    channel_service_pb2,
    channel_service_pb2_grpc,
    collection_service_pb2_grpc,
    events_pb2,
    handler_service_pb2,
    handler_service_pb2_grpc,
    session_service_pb2_grpc,
    state_service_pb2_grpc,
    task_service_pb2_grpc,
    types_pb2,
)
from capsule_sidecar.config import Settings
from capsule_sidecar.home import open_home
from capsule_sidecar.sidecar import Sidecar
from tests.support.eventually import eventually
from tests.support.ports import held_port, port_of

# Short enough that a test can wait for it, long enough for a busy machine.
FAST: dict[str, Any] = {
    "beat_interval": 0.2,
    "lease_term": 1.5,
    "fresh_beat": 1.0,
    "sweep_interval": 0.1,
    "stop_grace": 1.0,
    "drain_grace": 2.0,
}
# Where no lease is to end, however slow the machine is: it may stall for as long as that of FAST,
# and a client gives up what nobody has answered for its term.
PATIENT: dict[str, Any] = FAST | {"lease_term": 30.0, "fresh_beat": 20.0}


def request_id() -> str:
    """Returns a new request id."""
    return str(uuid.uuid4())


@dataclass
class Running:
    """A sidecar that serves."""

    address: str
    home: Path
    token: str
    sidecar: Sidecar | None = None
    # `http://HOST:PORT` of its HTTP side.
    http: str = ""

    def metadata(self, app: str = "support", token: str = "") -> tuple[tuple[str, str], ...]:
        """Returns what every call carries."""
        bearer = f"Bearer {token or self.token}"
        return (("authorization", bearer), ("capsule-app", app))


@asynccontextmanager
async def running_sidecar(home: Path, **settings: Any) -> AsyncIterator[Running]:
    """Serves in this loop until left. Settings by field name; `timing` is FAST unless given."""
    given = {
        "home": home, "grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "timing": FAST, **settings,
    }  # fmt: skip
    with open_home(home) as opened:
        async with Sidecar(Settings(**given), opened) as sidecar:
            yield Running(
                str(sidecar.address), home, opened.token, sidecar, f"http://{sidecar.http_address}"
            )


@dataclass
class SidecarProcess:
    """A sidecar as a process of its own; `start` again after `kill` serves on the same port.

    Ports that are not given are held from the first start to the end of `async with`: while it is
    down, nobody else is given them.
    """

    home: Path
    port: int = 0
    http_port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    log: bytearray = field(default_factory=bytearray)
    _reader: asyncio.Task[None] | None = None
    _held: list[socket.socket] = field(default_factory=list)

    async def start(self) -> Running:
        """Starts it and waits until it is ready."""
        self.port = self.port or self._hold()
        self.http_port = self.http_port or self._hold()
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        for name, value in FAST.items():
            variables[f"CAPSULE_TIMING__{name.upper()}"] = str(value)
        self.process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("capsule-sidecar")),
            "serve", "--home", str(self.home), "--grpc", f"127.0.0.1:{self.port}",
            "--http", f"127.0.0.1:{self.http_port}",
            env=variables | self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._reader = asyncio.create_task(self._read_log())
        line = (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode()
        assert line.startswith("ready grpc="), line + self.log.decode()
        address = line.split("grpc=")[1].split()[0]
        http = line.split("http=")[1].split()[0]
        token = (self.home / "token").read_text().strip()
        return Running(address, self.home, token, http=http)

    def _hold(self) -> int:
        self._held.append(held_port())
        return port_of(self._held[-1])

    async def _read_log(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        while chunk := await self.process.stderr.read(65_536):
            self.log += chunk

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 60)
        if self._reader is not None:
            await self._reader
        return code

    async def kill(self) -> None:
        """Ends it as a crash does."""
        await self.end(signal.SIGKILL)

    async def __aenter__(self) -> SidecarProcess:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self.process is not None:
                await self.kill()
        finally:
            for held in self._held:
                held.close()


def dial(address: str) -> grpc.aio.Channel:
    """Opens a channel that knows nothing of others to the same address.

    By default channels of one process share how their connections fare: a new one to a sidecar that
    was just started again would be refused for as long as an old one waits to try it.
    """
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


async def write_to(call: Any, message: Any) -> None:
    """Writes to a call, as its `write` does, and leaves why the call has ended as it is.

    Where it has ended and this loop has not heard of that yet, `write` itself puts INTERNAL in the
    place of what the server has answered: whoever reads the call would then be told that.
    """
    if call.done():
        raise asyncio.InvalidStateError("the call has ended")
    if not call._metadata_sent.is_set():
        await call._metadata_sent.wait()
        if call.done():
            await call._raise_for_status()
    try:
        await call._cython_call.send_serialized_message(message.SerializeToString())
    except grpc.aio.InternalError:
        await call._raise_for_status()
        raise asyncio.InvalidStateError("the call has ended") from None


class Person:
    """Someone on a channel, by bare stubs.

    Args:
        running: The sidecar.
        identity: Who.
        app: The app.
        token: Another token than the home's.
    """

    def __init__(
        self,
        running: Running,
        identity: str = "terminal:ada",
        app: str = "support",
        token: str = "",
    ) -> None:
        self.identity = identity
        self.metadata = running.metadata(app, token)
        self.channel = dial(running.address)
        self.stub: Any = channel_service_pb2_grpc.ChannelServiceStub(self.channel)
        self.admin: Any = admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def __aenter__(self) -> Person:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def call(self, method: str, **fields: Any) -> Any:
        """Calls a unary method with this identity and, where it takes one, a new request id."""
        request_type = getattr(channel_service_pb2, f"{method}Request")
        names = request_type.DESCRIPTOR.fields_by_name
        if "request_id" in names:
            fields.setdefault("request_id", request_id())
        if "identity" in names:
            fields.setdefault("identity", self.identity)
        return await getattr(self.stub, method)(
            request_type(**fields), metadata=self.metadata, timeout=20
        )

    async def open(self, title: str = "") -> str:
        """Opens a session and returns its id."""
        opened = await self.call("OpenSession", title=title)
        return str(opened.session.session_id)

    async def say(self, session_id: str, text: str, **fields: Any) -> Any:
        """Sends a message."""
        return await self.call("SendMessage", session_id=session_id, text=text, **fields)

    async def timeline(self, session_id: str) -> list[channel_service_pb2.TimelineItem]:
        """Returns the newest page of the timeline."""
        page = await self.call("GetTimeline", session_id=session_id, page_size=200)
        return list(page.items)

    async def texts(self, session_id: str) -> list[str]:
        """Returns the texts of the complete messages in the timeline's order."""
        items = await self.timeline(session_id)
        return [i.message.text for i in items if i.WhichOneof("item") == "message"]

    async def hears(self, session_id: str, text: str, timeout: float = 30.0) -> None:
        """Waits until the app has said something."""

        async def said() -> bool:
            items = await self.timeline(session_id)
            return any(
                i.message.text == text and i.message.sender == types_pb2.SENDER_APP for i in items
            )

        await eventually(said, timeout=timeout, message=f"the app says {text!r}")

    async def follow(self, session_id: str, after: int = 0, *, live: bool = True) -> Follow:
        """Follows a session in the background; `async with` ends it, and see `Follow` of `live`."""
        call = self.stub.FollowSession(
            channel_service_pb2.FollowSessionRequest(
                identity=self.identity, session_id=session_id, after_offset=after
            ),
            metadata=self.metadata,
        )
        return Follow(call, live=live)


class Follow:
    """What a follower has seen: `events` by offset and `frames` as they came.

    Args:
        call: What is read.
        live: `async with` begins when the follower is live or has failed: what passes before that,
            as a status line or a delta, would come to it within the snapshot only. False: it begins
            at once, for tests of what happens meanwhile.
    """

    def __init__(self, call: Any, *, live: bool = True) -> None:
        self.call = call
        self._waits = live
        self.frames: list[events_pb2.FollowFrame] = []
        self.events: list[events_pb2.Event] = []
        self.error: grpc.aio.AioRpcError | None = None

    async def __aenter__(self) -> Follow:
        self._task = asyncio.create_task(self._read())
        if self._waits:
            await eventually(
                lambda: self._task.done() or self._last_of_snapshot(),
                timeout=15,
                message="the follower is live",
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (batch := await self.call.read()) is not grpc.aio.EOF:
                for frame in batch.frames:
                    self.frames.append(frame)
                    if frame.WhichOneof("frame") == "event":
                        self.events.append(frame.event)
        except grpc.aio.AioRpcError as error:
            self.error = error

    def kinds(self) -> list[str]:
        """Returns the kinds of the events in order."""
        return [str(event.WhichOneof("kind")) for event in self.events]

    async def sees(self, kind: str, count: int = 1, timeout: float = 15.0) -> events_pb2.Event:
        """Waits for the count-th event of a kind and returns it."""

        def found() -> events_pb2.Event | None:
            matching = [e for e in self.events if e.WhichOneof("kind") == kind]
            return matching[count - 1] if len(matching) >= count else None

        event = await eventually(found, timeout=timeout, message=f"{count} x {kind}")
        assert event is not None
        return event

    async def live(self, timeout: float = 15.0) -> events_pb2.Snapshot:
        """Waits for the end of the first snapshot and returns it."""
        snapshot = await eventually(self._last_of_snapshot, timeout=timeout, message="the snapshot")
        assert isinstance(snapshot, events_pb2.Snapshot)
        return snapshot

    def _last_of_snapshot(self) -> events_pb2.Snapshot | None:
        for frame in self.frames:
            if frame.WhichOneof("frame") == "snapshot" and frame.snapshot.last:
                return frame.snapshot
        return None


class BareHandler:
    """A handler process on bare stubs: an Attach that the test drives frame by frame.

    Args:
        running: The sidecar.
        app: The app.
        token: Another token than the home's.
        process_id: The same again for a process that comes back.
    """

    def __init__(
        self, running: Running, app: str = "support", token: str = "", process_id: str = ""
    ) -> None:
        self.app = app
        self.metadata = running.metadata(app, token)
        self.process_id = process_id or request_id()
        self.channel = dial(running.address)
        self.sessions: Any = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.state: Any = state_service_pb2_grpc.StateServiceStub(self.channel)
        self.tasks: Any = task_service_pb2_grpc.TaskServiceStub(self.channel)
        self.collections: Any = collection_service_pb2_grpc.CollectionServiceStub(self.channel)
        self.handlers: Any = handler_service_pb2_grpc.HandlerServiceStub(self.channel)
        self.frames: list[handler_service_pb2.SidecarFrame] = []
        self.error: grpc.aio.AioRpcError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._silent = False
        self._tag = 0
        self._writing = asyncio.Lock()
        self.call: Any = None

    async def attach(
        self,
        *,
        leases: list[handler_service_pb2.Lease] | None = None,
        beats: bool = True,
        concurrency: int = 8,
        declarations: handler_service_pb2.Declarations | None = None,
        **hello: Any,
    ) -> handler_service_pb2.Welcome:
        """Attaches and returns the welcome."""
        self.call = self.handlers.Attach(metadata=self.metadata)
        fields: dict[str, Any] = {
            "app": self.app,
            "protocol_version": "1",
            "client_name": "bare",
            "client_version": "0",
            "process_id": self.process_id,
            "declarations": declarations or handler_service_pb2.Declarations(message=True),
            "concurrency": concurrency,
            "leases": leases or [],
        } | hello
        first = handler_service_pb2.Hello(**fields)
        await self.send(handler_service_pb2.HandlerFrame(hello=first))
        self._tasks.append(asyncio.create_task(self._read()))
        if beats:
            self._silent = False
            self._tasks.append(asyncio.create_task(self._beat()))
        return (await self.gets("welcome")).welcome

    async def send(self, *frames: handler_service_pb2.HandlerFrame) -> None:
        """Sends frames as one batch."""
        async with self._writing:  # the test and the beats share the call
            await write_to(self.call, handler_service_pb2.AttachRequest(frames=frames))

    async def command(self, **request: Any) -> int:
        """Sends a command, as `reply=ReplyRequest(...)`, and returns its tag."""
        self._tag += 1
        tag = self._tag
        command = handler_service_pb2.Command(tag=tag, **request)
        await self.send(handler_service_pb2.HandlerFrame(command=command))
        return tag

    async def result(self, tag: int, timeout: float = 15.0) -> handler_service_pb2.CommandResult:
        """Waits for the answer to a command."""

        def found() -> handler_service_pb2.CommandResult | None:
            for frame in self.frames:
                result = frame.command_result  # an empty one in other frames; tags count from 1
                if result.tag == tag:
                    return result
            return None

        result = await eventually(found, timeout=timeout, message=f"the result of command {tag}")
        assert result is not None
        return result

    async def gets(
        self, kind: str, count: int = 1, timeout: float = 15.0
    ) -> handler_service_pb2.SidecarFrame:
        """Waits for the count-th frame of a kind."""

        def found() -> handler_service_pb2.SidecarFrame | None:
            assert self.error is None, self.error
            matching = [f for f in self.frames if f.WhichOneof("frame") == kind]
            return matching[count - 1] if len(matching) >= count else None

        frame = await eventually(found, timeout=timeout, message=f"{count} x {kind}")
        assert frame is not None
        return frame

    async def work(self, count: int = 1, timeout: float = 15.0) -> handler_service_pb2.Invocation:
        """Waits for the count-th invocation."""
        return (await self.gets("invocation", count, timeout)).invocation

    async def finish(
        self,
        invocation: handler_service_pb2.Invocation,
        status: int = handler_service_pb2.OUTCOME_STATUS_COMPLETED,
        **fields: Any,
    ) -> None:
        """Sends an outcome."""
        outcome = handler_service_pb2.Outcome(
            invocation_id=invocation.invocation_id,
            attempt=invocation.attempt,
            status=status,  # type: ignore[arg-type]  # enum values are ints on the wire
            **fields,
        )
        await self.send(handler_service_pb2.HandlerFrame(outcome=outcome))

    def fall_silent(self) -> None:
        """Beats no more; the line stays."""
        self._silent = True

    async def drop(self) -> None:
        """Loses the line without a word; leases stay."""
        for task in self._tasks:
            task.cancel()
        if self.call is not None:
            self.call.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _read(self) -> None:
        try:
            while (batch := await self.call.read()) is not grpc.aio.EOF:
                self.frames.extend(batch.frames)
        except grpc.aio.AioRpcError as error:
            self.error = error

    async def _beat(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(FAST["beat_interval"])
            if self._silent:
                return
            number += 1
            beat = handler_service_pb2.Beat(number=number)
            try:
                await self.send(handler_service_pb2.HandlerFrame(beat=beat))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

    async def __aenter__(self) -> BareHandler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()
        await self.channel.close()


@dataclass
class Refusal:
    """An error as the wire has it."""

    code: grpc.StatusCode | None = None
    reason: str = ""
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Reads an error with its details."""
    from google.rpc import error_details_pb2, status_pb2

    found = Refusal(error.code(), message=error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(info):
                    found.reason, found.metadata = info.reason, dict(info.metadata)
                    assert info.domain == "capsule.dev"
                elif detail.Unpack(bad):
                    found.fields = [v.field for v in bad.field_violations]
    return found


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[Refusal]:
    """Expects a call to be refused so; gives the refusal when left."""
    found = Refusal()
    try:
        yield found
    except grpc.aio.AioRpcError as error:
        read = refusal_of(error)
        found.__dict__.update(read.__dict__)
        assert (read.code, read.reason) == (code, reason), read
    else:
        raise AssertionError(f"the call was not refused; {code} {reason} was expected")

"""The line to the sidecar: one Attach stream, opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import grpc
import grpc.aio

from capsule_client import _channel, _frames
from capsule_client._declared import named
from capsule_client._error_table import from_rpc
from capsule_client._leases import Leases
from capsule_client._outbox import Outbox
from capsule_client._settings import Address, TokenSource
from capsule_client.errors import CapsuleError, InvalidArgument, PermissionDenied, Unavailable
from capsule_protocol.v1.handler_service_pb2 import (
    AttachResponse,
    Beat,
    BeatAck,
    Cancel,
    Declarations,
    Drain,
    HandlerFrame,
    Hello,
    Invocation,
    OutcomeAck,
    PromptAck,
    PromptResolved,
    SidecarFrame,
    Welcome,
)

_log = logging.getLogger("capsule")

_FIRST_DELAY = 0.05  # seconds before the line is opened again, doubled each time
_MAX_DELAY = 0.5
_STEADY = 1.0  # seconds after which a line that is lost begins with the first delay again
_WELCOME_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0
_LOST_BEATS = 3  # unanswered beats after which a line counts as dead
_REMIND = 30.0  # seconds between two logs of the same trouble

_Call = grpc.aio.StreamStreamCall[bytes, AttachResponse]


class Receiver(Protocol):
    """Who acts on what the sidecar sends."""

    def hello(self) -> Hello:
        """Returns how this process introduces itself now."""

    def welcomed(self, welcome: Welcome, sent: float) -> None:
        """Takes the answer to a hello that was sent at `sent` by the leases' clock."""

    def invoked(self, invocation: Invocation) -> None:
        """Takes work."""

    def cancelled(self, cancel: Cancel) -> None:
        """Takes the word to end work."""

    def outcome_taken(self, ack: OutcomeAck) -> None:
        """Takes the acknowledgement of an outcome."""

    def prompt_ended(self, resolved: PromptResolved) -> None:
        """Takes the end of a prompt; it may be known, and its attempt may be gone."""

    def beat_answered(self, sent: float) -> None:
        """Takes the answer to a beat that was sent at `sent` by the leases' clock."""

    def check_leases(self) -> None:
        """Gives up what is held beyond its term; called before anything is sent."""


class Line:
    """Keeps one Attach stream open: a writer that drains the outbox, a reader that dispatches."""

    def __init__(
        self,
        app: str,
        address: Address,
        token: TokenSource,
        outbox: Outbox,
        leases: Leases,
        receiver: Receiver,
    ) -> None:
        self.attached = asyncio.Event()  # set with the first welcome, for good
        self._app = app
        self._address = address
        self._token = token
        self._outbox = outbox
        self._leases = leases
        self._receiver = receiver
        self._channel: grpc.aio.Channel | None = None
        self._call: _Call | None = None
        self._declared = Declarations()  # by the newest hello
        self._metadata: tuple[tuple[str, str], ...] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._draining = False
        self._drain_due = False
        self._drain_beat = 0  # the beat that was sent behind the drain
        self._drained = False
        self._beat_due = False
        self._beat_number = 0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._beats: dict[int, float] = {}  # when the unanswered ones were sent
        self._ended_prompts: dict[str, None] = {}  # to be acknowledged
        self._trouble_logged = float("-inf")
        self._dispatch: dict[str, Callable[[SidecarFrame], None]] = {
            "command_result": lambda frame: outbox.answered(frame.command_result),
            "stream_ack": lambda frame: outbox.stream_durable(frame.stream_ack),
            "stream_refused": lambda frame: outbox.stream_refused(frame.stream_refused),
            "invocation": lambda frame: receiver.invoked(frame.invocation),
            "cancel": lambda frame: receiver.cancelled(frame.cancel),
            "outcome_ack": lambda frame: receiver.outcome_taken(frame.outcome_ack),
            "prompt_resolved": lambda frame: self._prompt_ended(frame.prompt_resolved),
            "beat_ack": lambda frame: self._beat_answered(frame.beat_ack),
            "drain": lambda _: _log.info("the sidecar is shutting down"),
        }

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """The metadata of the newest attach; None before the first."""
        return self._metadata

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """The channel of the newest attach, for calls beside it; None while there is none."""
        return self._channel

    @property
    def connected(self) -> bool:
        """Whether a line is open now."""
        return self._call is not None

    def kick(self) -> None:
        """Tells the writer that something waits."""
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)

    @property
    def drained(self) -> bool:
        """Whether the sidecar has taken the drain, and everything it sent before that has come."""
        return self._drained

    def drain(self) -> None:
        """Asks for no new work, now and on every later line."""
        if not self._draining:
            self._draining = self._drain_due = True
            self.kick()

    async def run(self) -> None:
        """Keeps the line open until `close`.

        Raises what makes another try pointless: versions that do not fit, a malformed hello, and
        before the first attach a fixed token that is not known.
        """
        delay = _FIRST_DELAY
        try:
            while not self._closing:
                began = self._leases.now()
                try:
                    await self._attach()
                except grpc.aio.AioRpcError as error:
                    self._failed(from_rpc(error, partial(named, self._declared)))
                except _Trouble as trouble:
                    self._log_trouble(str(trouble))
                if self._leases.now() - began > _STEADY:
                    delay = _FIRST_DELAY
                if not self._closing:
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads
                    delay = min(delay * 2, _MAX_DELAY)
        finally:
            await self._close_channel()

    async def close(self) -> None:
        """Ends the line after what was given to it; `run` returns then."""
        self._closing = True
        if self._call is not None:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._call.done_writing()
            except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
                pass  # it is lost: nothing to end

    async def _attach(self) -> None:
        token = self._token.read()
        if not token:
            raise _Trouble(
                f"no token yet: {self._token.path.resolve()} does not exist. The sidecar writes it "
                "when it starts; CAPSULE_HOME names another home, CAPSULE_TOKEN a token"
            )
        if self._channel is None:
            self._channel = _channel.open_channel(self._address)
        self._metadata = _channel.metadata(self._app, token)
        attach: Any = self._channel.stream_stream(
            _channel.ATTACH,
            request_serializer=None,  # batches are bytes already
            response_deserializer=AttachResponse.FromString,
        )
        call: _Call = attach(metadata=self._metadata)
        try:
            await self._converse(call)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _Trouble("the line was lost") from None  # the call was cancelled, not we
        finally:
            self._call = None
            call.cancel()

    async def _converse(self, call: _Call) -> None:
        sent = self._leases.now()
        hello = self._receiver.hello()
        self._declared = hello.declarations
        self._begin_beats()
        first = [_frames.encode(HandlerFrame(hello=hello)), *self._control()]
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT):
                await call.write(b"".join(first))
                answer = await call.read()
        except TimeoutError:
            await self._close_channel()
            raise _Trouble(f"no welcome from {self._address.target}") from None
        frames = list(answer.frames) if isinstance(answer, AttachResponse) else []
        if not frames or not frames[0].HasField("welcome"):
            raise _Trouble(f"{self._address.target} answered without a welcome")
        self._welcomed(frames[0].welcome, sent)
        self._call = call
        loop = asyncio.get_running_loop()
        self._beat_timer = loop.call_later(self._leases.beat_interval, self._beat)
        writer = asyncio.create_task(self._write(call), name="capsule-writer")
        try:
            self._take(frames[1:])
            while isinstance(batch := await call.read(), AttachResponse):
                self._take(batch.frames)
        finally:
            if self._beat_timer is not None:
                self._beat_timer.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        if not self._closing:
            self._log_trouble("the sidecar ended the line")

    def _welcomed(self, welcome: Welcome, sent: float) -> None:
        limits = welcome.limits
        self._outbox.limits.take_over(limits)
        if limits.HasField("beat_interval"):
            self._leases.beat_interval = limits.beat_interval.ToTimedelta().total_seconds()
        if limits.HasField("lease_term"):
            self._leases.term = limits.lease_term.ToTimedelta().total_seconds()
        self._drain_due = self._draining
        self._receiver.welcomed(welcome, sent)
        self._outbox.restart()
        self._trouble_logged = float("-inf")
        # `capsule-sidecar dev` reads the app's name from this.
        where, version = self._address.target, welcome.sidecar_version
        _log.info("%s attached to %s (sidecar %s)", self._app, where, version)
        self.attached.set()

    async def _write(self, call: _Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._receiver.check_leases()
                batch = [*self._control(), *self._outbox.take()]
                if batch:
                    await call.write(b"".join(batch))
                else:
                    self._wake = loop.create_future()
                    await self._wake
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # the reader learns the same, with its reason
        finally:
            call.cancel()

    def _take(self, frames: Any) -> None:
        dispatch = self._dispatch
        for frame in frames:
            take = dispatch.get(frame.WhichOneof("frame"))
            if take is not None:  # a newer sidecar may say what we do not know
                take(frame)

    def _control(self) -> list[bytes]:
        """What passes before everything that waits."""
        frames = []
        if self._drain_due:
            self._drain_due = False
            frames.append(_frames.encode(HandlerFrame(drain=Drain())))
            self._drain_beat = self._beat_number + 1
            self._beat_due = True
        if self._beat_due:
            self._beat_due = False
            self._beat_number += 1
            self._beats[self._beat_number] = self._leases.now()
            frames.append(_frames.encode(HandlerFrame(beat=Beat(number=self._beat_number))))
        if self._ended_prompts:
            ended, self._ended_prompts = self._ended_prompts, {}
            for prompt_id in ended:
                ack = PromptAck(prompt_id=prompt_id)
                frames.append(_frames.encode(HandlerFrame(prompt_ack=ack)))
        return frames

    def _begin_beats(self) -> None:
        self._beats.clear()
        self._ended_prompts.clear()  # the sidecar tells of them again
        self._beat_number = 0
        self._beat_due = True
        self._drain_due = False
        self._drain_beat = 0

    def _beat(self) -> None:
        if len(self._beats) >= _LOST_BEATS:
            self._log_trouble("the sidecar does not answer")
            if self._call is not None:
                self._call.cancel()
            return
        loop = asyncio.get_running_loop()
        self._beat_timer = loop.call_later(self._leases.beat_interval, self._beat)
        self._beat_due = True
        self.kick()

    def _beat_answered(self, ack: BeatAck) -> None:
        sent = self._beats.pop(ack.number, None)
        if sent is not None:
            if 0 < self._drain_beat <= ack.number:
                self._drained = True
            self._receiver.beat_answered(sent)

    def _prompt_ended(self, resolved: PromptResolved) -> None:
        self._receiver.prompt_ended(resolved)
        self._ended_prompts[resolved.prompt.prompt_id] = None
        self.kick()

    async def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _failed(self, error: CapsuleError) -> None:
        first = not self.attached.is_set()
        hopeless = isinstance(error, InvalidArgument) or error.reason == "INCOMPATIBLE_VERSION"
        if hopeless or (first and isinstance(error, PermissionDenied) and self._token.fixed):
            raise error
        if isinstance(error, Unavailable) and error.reason == "REPLACED":
            _log.info("another line of this process took over")
            return
        self._log_trouble(f"{self._address.target}: {error}")

    def _log_trouble(self, what: str) -> None:
        now = self._leases.now()
        if now - self._trouble_logged >= _REMIND:
            self._trouble_logged = now
            _log.warning("not attached, trying on: %s", what)


class _Trouble(Exception):
    """Why an attach did not come about or ended, where no RPC says it."""

"""Followers that are cut off and go on where they were, and what they must have seen."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import grpc

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from tests.faults.people import Patient, was_reset
from tests.support.eventually import eventually
from tests.support.fold import Fold, OpenText
from tests.support.sidecar import Running

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)

_FIRST_PAUSE = 0.05  # seconds
_LONGEST_PAUSE = 0.4


class WholeFold(Fold):
    """A fold that also compares what was shown of a stream with the message it became."""

    def __init__(self) -> None:
        super().__init__()
        self.compared = 0
        self.seen: list[int] = []

    def _event(self, event: events_pb2.Event) -> None:
        added = event.message_added
        if added.stream_id:
            shown = self.streams[added.stream_id].text
            assert added.message.text.startswith(shown), (shown, added.message.text)
            self.compared += bool(shown)
        super()._event(event)
        self.seen.append(event.position)


class ChannelFold:
    """The folds of all sessions of a channel, fed from one line."""

    def __init__(self) -> None:
        self.position = 0
        self.sessions: dict[str, WholeFold] = {}

    def read(self, frames: Iterable[events_pb2.FollowFrame]) -> None:
        """Reads frames in their order."""
        for frame in frames:
            match frame.WhichOneof("frame"):
                case "event":
                    assert frame.event.position > self.position, "an event came twice"
                    self.position = frame.event.position
                    self._session(frame.event.session_id).read([frame])
                case "transient" if frame.transient.session_id:
                    self._session(frame.transient.session_id).read([frame])
                case "snapshot":
                    self._snapshot(frame.snapshot)

    def _session(self, session_id: str) -> WholeFold:
        return self.sessions.setdefault(session_id, WholeFold())

    def _snapshot(self, snapshot: events_pb2.Snapshot) -> None:
        assert snapshot.position >= self.position
        if snapshot.first:
            for fold in self.sessions.values():
                fold.streams.clear()
        for stream in snapshot.streams:
            open_text = OpenText(stream.text, stream.revision)
            self._session(stream.session_id).streams[stream.stream_id] = open_text
        for fold in self.sessions.values():
            fold.live = True


class Following(ABC):
    """Follows until it is left; a line that ends is opened again from the last place.

    Args:
        session_id: The session. Empty: all that can be followed at once.
        patience: Seconds without a frame or a beat after which a line is given up; None: never.

    Attributes:
        fold: What was seen of the session.
        channel: What was seen of all sessions.
        lines: How many were opened.
    """

    def __init__(self, session_id: str = "", patience: float | None = None) -> None:
        self.session_id = session_id
        self.patience = patience
        self.fold = WholeFold()
        self.channel = ChannelFold()
        self.lines = 0
        self._heard = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._leave()

    @property
    def place(self) -> int:
        """The offset, or of all sessions the position, as far as it has read."""
        return self.fold.offset if self.session_id else self.channel.position

    def of(self, session_id: str) -> WholeFold:
        """Returns what was seen of one session.

        Raises:
            RuntimeError: Following has failed; its cause says with what.
        """
        self._check()
        if self.session_id:
            return self.fold
        return self.channel.sessions.get(session_id, WholeFold())

    async def reaches(self, place: int) -> None:
        """Waits until it has read as far as an offset, or a position of the channel."""

        def there() -> bool:
            self._check()
            return self.place >= place

        await eventually(there, timeout=60, interval=0.05, message=f"a follower reaches {place}")

    def _check(self) -> None:
        # No AssertionError, for whoever waits takes one for "not yet".
        if self._task.done():
            raise RuntimeError("a follower has failed") from self._task.exception()

    def read(self, frames: Iterable[events_pb2.FollowFrame]) -> None:
        """Reads frames in their order."""
        self._heard = True
        if self.session_id:
            self.fold.read(frames)
        else:
            self.channel.read(frames)

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self.lines += 1
            self._heard = False
            self.fold.live = False
            for fold in self.channel.sessions.values():
                fold.live = False
            await self._line()
            pause = _FIRST_PAUSE if self._heard else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause)  # as a client waits before it tries again

    @abstractmethod
    async def _line(self) -> None:
        """Reads one line from `place` on, until it ends in a way that is passing."""

    @abstractmethod
    async def _leave(self) -> None:
        """Lets go of what it holds."""


class Follower(Following):
    """Follows by gRPC.

    Args:
        running: The sidecar.
        identity: Whose session it is; the channel's follower names anybody of the channel.
        session_id: The session. Empty: the whole channel of the identity.
        patience: As of all followers.
    """

    def __init__(
        self,
        running: Running,
        identity: str,
        session_id: str = "",
        patience: float | None = None,
    ) -> None:
        super().__init__(session_id, patience)
        self._person = Patient(running, identity)

    async def _line(self) -> None:
        call = self._call()
        try:
            while True:
                async with asyncio.timeout(self.patience):
                    batch = await call.read()
                if batch is grpc.aio.EOF:
                    return
                self.read(batch.frames)
        except TimeoutError:
            pass
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AWAY and not was_reset(error):
                raise
        finally:
            call.cancel()

    def _call(self) -> Any:
        person = self._person
        if self.session_id:
            return person.stub.FollowSession(
                channel_service_pb2.FollowSessionRequest(
                    identity=person.identity,
                    session_id=self.session_id,
                    after_offset=self.place,
                ),
                metadata=person.metadata,
            )
        return person.stub.FollowChannel(
            channel_service_pb2.FollowChannelRequest(
                channel=person.identity.partition(":")[0], after_position=self.place
            ),
            metadata=person.metadata,
        )

    async def _leave(self) -> None:
        await self._person.__aexit__()

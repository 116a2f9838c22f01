"""Followers that are cut off and go on where they were, and what they must have seen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import grpc

from capsule_protocol.v1 import channel_service_pb2, events_pb2
from tests.faults.people import Patient
from tests.support.eventually import eventually
from tests.support.fold import Fold, OpenText
from tests.support.sidecar import Running

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


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


class Follower:
    """Follows until it is left; a line that ends is opened again from the last place.

    Args:
        running: The sidecar.
        identity: Whose session it is; the channel's follower names anybody of the channel.
        session_id: The session. Empty: the whole channel.
    """

    def __init__(self, running: Running, identity: str, session_id: str = "") -> None:
        self._person = Patient(running, identity)
        self._session_id = session_id
        self.fold = WholeFold()
        self.channel = ChannelFold()
        self.lines = 0
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Follower:
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
        await self._person.__aexit__()

    async def reaches(self, place: int) -> None:
        """Waits until it has read as far as an offset, or a position of the channel."""

        def there() -> bool:
            if self._task.done():
                self._task.result()
            return (self.fold.offset if self._session_id else self.channel.position) >= place

        await eventually(there, timeout=60, interval=0.05, message=f"a follower reaches {place}")

    async def _follow(self) -> None:
        while True:
            self.lines += 1
            self.fold.live = False
            for fold in self.channel.sessions.values():
                fold.live = False
            try:
                call = self._call()
                while (batch := await call.read()) is not grpc.aio.EOF:
                    (self.fold if self._session_id else self.channel).read(batch.frames)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AWAY:
                    raise
            await asyncio.sleep(0.05)  # a client's pause before it tries again

    def _call(self) -> Any:
        person = self._person
        if self._session_id:
            return person.stub.FollowSession(
                channel_service_pb2.FollowSessionRequest(
                    identity=person.identity,
                    session_id=self._session_id,
                    after_offset=self.fold.offset,
                ),
                metadata=person.metadata,
            )
        return person.stub.FollowChannel(
            channel_service_pb2.FollowChannelRequest(
                channel="terminal", after_position=self.channel.position
            ),
            metadata=person.metadata,
        )

"""Readers of sessions, as many as asked for, of a floor or of a sidecar alike.

arguments: the server's address, the identity that follows, then metadata as NAME=VALUE.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable

import grpc

from capsule_protocol.v1 import (
    channel_service_pb2 as channel_pb,
)
from capsule_protocol.v1 import (
    channel_service_pb2_grpc as channel_grpc,
)
from capsule_protocol.v1 import (
    events_pb2 as events_pb,
)
from tests.bench import worker
from tests.bench.texts import stamps

# How long a wait may take before what was seen until then is the answer, in seconds.
PATIENCE = 120.0
LOOK = 0.005
Call = grpc.aio.UnaryStreamCall[channel_pb.FollowSessionRequest, channel_pb.FollowSessionResponse]


class Seen:
    """What all followers together have read since the last `reset`."""

    def __init__(self) -> None:
        self.reset("events")

    def reset(self, watch: str) -> None:
        """Counts from zero; `watch`: `events`, `text`, or `stamps` for when deltas were made."""
        self.watch = watch
        self.batches = 0
        self.frames = 0
        self.characters = 0
        self.completed = 0
        # Of the characters, those that came with the message that completed their stream.
        self.late = 0
        self._of_stream: dict[str, int] = {}
        self.last = time.perf_counter()
        self.latencies = worker.Latencies()

    def text(self, frames: Iterable[events_pb.FollowFrame]) -> None:
        """Takes text deltas, and the messages that complete streams."""
        for frame in frames:
            if frame.HasField("transient"):
                delta = frame.transient.text_delta
                text = delta.text
                self.characters += len(text)
                stream = delta.stream_id
                self._of_stream[stream] = self._of_stream.get(stream, 0) + len(text)
                if self.watch == "stamps":
                    now = time.perf_counter_ns()
                    for made in stamps(text):
                        self.latencies.add((now - made) / 1e9)
            elif stream := frame.event.message_added.stream_id:
                self.completed += 1
                whole = len(frame.event.message_added.message.text)
                late = max(0, whole - self._of_stream.pop(stream, 0))
                self.characters += late
                self.late += late

    def summary(self) -> dict[str, float]:
        """Returns the counts; `end` is when the last batch came."""
        return {
            "end": self.last,
            "batches": self.batches,
            "frames": self.frames,
            "characters": self.characters,
            "completed": self.completed,
            "late": self.late,
            **self.latencies.summary(),
        }


class Follower:
    """One reader."""

    def __init__(self, call: Call, seen: Seen) -> None:
        self.offset = 0
        self.current = asyncio.Event()
        self.task = asyncio.create_task(self._read(call, seen))

    async def _read(self, call: Call, seen: Seen) -> None:
        while response := await worker.next_of(channel_pb.FollowSessionResponse, call):
            frames = response.frames
            if not self.current.is_set() and any(one.snapshot.last for one in frames):
                self.current.set()
            for frame in reversed(frames):
                if frame.HasField("event"):
                    self.offset = frame.event.offset
                    break
            seen.batches += 1
            seen.frames += len(frames)
            seen.last = time.perf_counter()
            if seen.watch != "events":
                seen.text(frames)
        raise worker.WorkError("the server ended a follower's stream")


class Group:
    """The commands."""

    def __init__(
        self, channel: grpc.aio.Channel, identity: str, metadata: list[tuple[str, str]]
    ) -> None:
        self._stub = channel_grpc.ChannelServiceStub(channel)
        self._identity = identity
        self._metadata = metadata
        self._followers: list[Follower] = []
        self._seen = Seen()

    async def follow(self, sessions: list[str], each: int = 1, after: int = 0) -> int:
        """Adds `each` followers to every session; waits until they are current."""
        added = []
        for session in sessions:
            for _ in range(each):
                request = channel_pb.FollowSessionRequest(
                    identity=self._identity, session_id=session, after_offset=after
                )
                call: Call = self._stub.FollowSession(request, metadata=self._metadata)
                added.append(Follower(call, self._seen))
        self._followers += added
        async with asyncio.timeout(PATIENCE):
            for follower in added:
                await follower.current.wait()
        return len(self._followers)

    async def leave(self) -> None:
        """Ends all of them."""
        for follower in self._followers:
            follower.task.cancel()
        await asyncio.gather(*(one.task for one in self._followers), return_exceptions=True)
        self._followers.clear()

    async def reset(self, watch: str) -> None:
        """Counts from zero."""
        self._seen.reset(watch)

    async def until_offset(self, ahead: int, base: int) -> dict[str, float]:
        """Waits until every follower has read `ahead` events after offset `base`."""
        return await self._until(lambda: all(one.offset >= base + ahead for one in self._followers))

    async def offset(self) -> int:
        """Returns the offset that all have read."""
        return min(one.offset for one in self._followers)

    async def until_characters(self, count: int) -> dict[str, float]:
        """Waits until text deltas of `count` characters have come."""
        return await self._until(lambda: self._seen.characters >= count)

    async def until_completed(self, count: int) -> dict[str, float]:
        """Waits until `count` streams have become messages."""
        return await self._until(lambda: self._seen.completed >= count)

    async def _until(self, reached: Callable[[], bool]) -> dict[str, float]:
        async with asyncio.timeout(PATIENCE):
            while not reached():
                for follower in self._followers:
                    if follower.task.done():
                        follower.task.result()
                # Not on each batch: the look at a thousand followers would cost more than reading.
                await asyncio.sleep(LOOK)
        return self._seen.summary()


async def main() -> None:
    target, identity, *pairs = sys.argv[1:]
    async with grpc.aio.insecure_channel(target) as channel:
        group = Group(channel, identity, worker.metadata(pairs))
        await worker.serve(
            {
                "follow": group.follow,
                "leave": group.leave,
                "reset": group.reset,
                "offset": group.offset,
                "until_offset": group.until_offset,
                "until_characters": group.until_characters,
                "until_completed": group.until_completed,
            }
        )


if __name__ == "__main__":
    worker.run(main)

"""People: what a channel adapter does for them, on bare stubs.

arguments: the sidecar's address, the identity, then metadata as NAME=VALUE.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

import grpc

from capsule_protocol.v1 import (
    channel_service_pb2 as channel_pb,
)
from capsule_protocol.v1 import (
    channel_service_pb2_grpc as channel_grpc,
)
from capsule_protocol.v1 import (
    types_pb2 as types_pb,
)
from tests.bench import worker

TURN_TIMEOUT = 300.0


class People:
    """The commands."""

    def __init__(
        self, channel: grpc.aio.Channel, identity: str, metadata: list[tuple[str, str]]
    ) -> None:
        self._stub = channel_grpc.ChannelServiceStub(channel)
        self._identity = identity
        self._metadata = metadata

    async def open(self, count: int) -> list[str]:
        """Opens sessions and returns their ids."""
        sessions = []
        for _ in range(count):
            request = channel_pb.OpenSessionRequest(
                request_id=str(uuid.uuid4()), identity=self._identity
            )
            opened = await self._stub.OpenSession(request, metadata=self._metadata)
            sessions.append(opened.session.session_id)
        return sessions

    async def send(self, sessions: list[str], text: str) -> int:
        """Sends a message to each session."""
        await asyncio.gather(*(self._send(session, text) for session in sessions))
        return len(sessions)

    async def turns(self, sessions: list[str], count: int) -> dict[str, float]:
        """Sends a message to each session, and the next when a reply is seen, `count` in all.

        A turn's time counts from the sending of its message to the sight of the reply. With one
        session the next message waits for the turn's end, so that turns do not overlap.
        """
        alone = len(sessions) == 1
        replied = {session: asyncio.Event() for session in sessions}
        over = {session: asyncio.Event() for session in sessions}
        current = asyncio.Event()
        reader = asyncio.create_task(self._watch(replied, over, current))
        taken = worker.Latencies()
        left = count

        async def lane(session: str) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                start = time.perf_counter()
                await self._send(session, "Is it raining in Geneva?")
                await replied[session].wait()
                replied[session].clear()
                taken.add(time.perf_counter() - start)
                if alone:
                    await over[session].wait()
                    over[session].clear()

        async with asyncio.timeout(TURN_TIMEOUT):
            await current.wait()
            start = time.perf_counter()
            await asyncio.gather(*(lane(session) for session in sessions))
        seconds = time.perf_counter() - start
        reader.cancel()
        return {"rate": len(taken) / seconds, "seconds": seconds, **taken.summary()}

    async def open_cost(self, session: str, count: int) -> dict[str, float]:
        """Opens a session as a page does, `count` times: the newest page, then following."""

        async def one() -> None:
            request = channel_pb.GetTimelineRequest(identity=self._identity, session_id=session)
            page = await self._stub.GetTimeline(request, metadata=self._metadata)
            follow = channel_pb.FollowSessionRequest(
                identity=self._identity, session_id=session, after_offset=page.offset
            )
            call = self._stub.FollowSession(follow, metadata=self._metadata)
            while batch := await worker.next_of(channel_pb.FollowSessionResponse, call):
                if any(frame.snapshot.last for frame in batch.frames):
                    break
            call.cancel()

        return await worker.closed_loop(one, in_flight=1, count=count)

    async def _watch(
        self,
        replied: dict[str, asyncio.Event],
        over: dict[str, asyncio.Event],
        current: asyncio.Event,
    ) -> None:
        """Follows all sessions of the identity from where they are."""
        listed = await self._stub.ListSessions(
            channel_pb.ListSessionsRequest(identity=self._identity, page_size=1),
            metadata=self._metadata,
        )
        request = channel_pb.FollowChannelRequest(
            identity=self._identity, after_position=listed.position
        )
        call = self._stub.FollowChannel(request, metadata=self._metadata)
        while response := await worker.next_of(channel_pb.FollowChannelResponse, call):
            for frame in response.frames:
                event = frame.event
                if event.message_added.message.sender == types_pb.SENDER_APP:
                    told = replied.get(event.session_id)
                elif event.HasField("invocation_ended"):
                    told = over.get(event.session_id)
                elif frame.snapshot.last:
                    told = current
                else:
                    continue
                if told is not None:
                    told.set()

    async def _send(self, session: str, text: str) -> None:
        request = channel_pb.SendMessageRequest(
            request_id=str(uuid.uuid4()), identity=self._identity, session_id=session, text=text
        )
        await self._stub.SendMessage(request, metadata=self._metadata)


async def main() -> None:
    target, identity, *pairs = sys.argv[1:]
    async with grpc.aio.insecure_channel(target) as channel:
        people = People(channel, identity, worker.metadata(pairs))
        await worker.serve(
            {
                "open": people.open,
                "send": people.send,
                "turns": people.turns,
                "open_cost": people.open_cost,
            }
        )


if __name__ == "__main__":
    worker.run(main)

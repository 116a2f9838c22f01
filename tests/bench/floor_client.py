"""The load that a floor is put under: what a handler process would send, without a handler.

arguments: the server's address.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable
from typing import Any

import grpc

from capsule_protocol.v1 import (
    handler_service_pb2 as handler_pb,
)
from capsule_protocol.v1 import (
    handler_service_pb2_grpc as handler_grpc,
)
from capsule_protocol.v1 import (
    session_service_pb2 as session_pb,
)
from capsule_protocol.v1 import (
    session_service_pb2_grpc as session_grpc,
)
from tests.bench import worker
from tests.bench.texts import REPLY, stamp, token

INVOCATION = "01890000-0000-7000-8000-000000000001"
REQUEST = "01890000-0000-7000-8000-000000000002"
# Deltas that may wait for the line before their producers do.
WINDOW = 256
AttachCall = grpc.aio.StreamStreamCall[handler_pb.AttachRequest, handler_pb.AttachResponse]


def reply() -> session_pb.ReplyRequest:
    """Returns a request of the size that a handler's is."""
    return session_pb.ReplyRequest(
        invocation_id=INVOCATION, attempt=1, request_id=REQUEST, text=REPLY
    )


class Line:
    """An Attach stream: what waits is written together, or one by one."""

    def __init__(self, call: AttachCall, *, batched: bool) -> None:
        self._call = call
        self._batched = batched
        self._closing = False
        self._waiting: list[handler_pb.HandlerFrame] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._writer = asyncio.create_task(self._write())

    async def put(self, item: handler_pb.HandlerFrame) -> None:
        """Queues an item; waits while there is no room."""
        while len(self._waiting) >= WINDOW:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(item)
        self._wake.set()

    async def close(self) -> None:
        """Writes the rest and ends the line."""
        self._closing = True
        self._wake.set()
        # Not cancelled: that would cancel the call.
        await self._writer
        await self._call.done_writing()

    async def _write(self) -> None:
        while self._waiting or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            taken, self._waiting = self._waiting, []
            if not taken:
                continue
            if self._batched:
                self._room.set()
                await self._call.write(handler_pb.AttachRequest(frames=taken))
            else:
                for item in taken:
                    await self._call.write(handler_pb.AttachRequest(frames=[item]))
                self._room.set()


class Client:
    """The commands."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions = session_grpc.SessionServiceStub(channel)
        self._handlers = handler_grpc.HandlerServiceStub(channel)

    async def echo(self, in_flight: int, count: int) -> dict[str, float]:
        """Unary replies, `in_flight` at a time."""
        return await worker.closed_loop(
            lambda: self._echo(reply()), in_flight=in_flight, count=count
        )

    async def echo_at(self, rate: float, seconds: float) -> dict[str, float]:
        """Unary replies at a rate."""

        async def call() -> None:
            await self._echo(reply())

        return await worker.open_loop(call, rate=rate, seconds=seconds)

    async def ping_pong(self, how: str, count: int) -> dict[str, float]:
        """One reply after the other on a stream, each flushed by the server."""
        call: AttachCall = self._handlers.Attach(metadata=(("flush", how),))

        async def one() -> None:
            item = handler_pb.HandlerFrame(command=handler_pb.Command(tag=1, reply=reply()))
            await call.write(handler_pb.AttachRequest(frames=[item]))
            await call.read()

        await one()
        result = await worker.closed_loop(one, in_flight=1, count=count)
        await call.done_writing()
        await call.read()
        return result

    async def deltas(
        self, sessions: list[str], each: int, interval: float, batched: bool, stamped: bool
    ) -> dict[str, float]:
        """Writes `each` deltas to every session, as fast as they go or every `interval` s.

        Returns the time of the first as `start`, on the clock that all processes share.
        """
        call: AttachCall = self._handlers.Attach()
        line = Line(call, batched=batched)
        start = time.perf_counter()

        async def stream(number: int, session: str) -> None:
            # Streams at a rate begin apart, as people do.
            due = start + interval * number / len(sessions)
            for place in range(each):
                at = due + place * interval if interval else 0.0
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                text = stamp() if stamped else token(place)
                delta = session_pb.AppendStreamRequest(
                    invocation_id=session, attempt=1, stream_id=session, text=text
                )
                command = handler_pb.Command(append_stream=delta)
                await line.put(handler_pb.HandlerFrame(command=command))

        await asyncio.gather(*(stream(number, name) for number, name in enumerate(sessions)))
        await line.close()
        await worker.next_of(handler_pb.AttachResponse, call)
        return {"start": start, "seconds": time.perf_counter() - start}

    async def replies(self, session: str, count: int, in_flight: int) -> dict[str, float]:
        """Replies to one session over a stream, `in_flight` at a time."""
        call: AttachCall = self._handlers.Attach()
        line = Line(call, batched=True)
        answers: dict[int, asyncio.Future[int]] = {}
        reader = asyncio.create_task(self._settle(call, answers))
        loop = asyncio.get_running_loop()
        start = time.perf_counter()
        last = 0

        async def one() -> int:
            nonlocal last
            last += 1
            request = reply()
            request.invocation_id = session
            command = handler_pb.Command(tag=last, reply=request)
            answer = answers[last] = loop.create_future()
            await line.put(handler_pb.HandlerFrame(command=command))
            return int(await answer)

        result = await worker.closed_loop(one, in_flight=in_flight, count=count)
        await line.close()
        await reader
        return {"start": start, **result}

    @staticmethod
    async def _settle(call: AttachCall, answers: dict[int, asyncio.Future[int]]) -> None:
        while response := await worker.next_of(handler_pb.AttachResponse, call):
            for item in response.frames:
                result = item.command_result
                answers.pop(result.tag).set_result(result.reply.offset)

    def _echo(self, request: session_pb.ReplyRequest) -> Awaitable[Any]:
        return self._sessions.Reply(request)


async def main() -> None:
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        client = Client(channel)
        await worker.serve(
            {
                "echo": client.echo,
                "echo_at": client.echo_at,
                "ping_pong": client.ping_pong,
                "deltas": client.deltas,
                "replies": client.replies,
            }
        )


if __name__ == "__main__":
    worker.run(main)

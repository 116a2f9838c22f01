"""The least handler, on bare stubs: attaches, keeps its turn, and replies by unary calls.

arguments: the sidecar's address, the app, then metadata as NAME=VALUE.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

import grpc

from capsule_client._ids import RequestIds
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
from tests.bench.texts import REPLY

BEAT = 3.0
WORK_TIMEOUT = 60.0


class Handler:
    """The commands."""

    def __init__(
        self, channel: grpc.aio.Channel, app: str, metadata: list[tuple[str, str]]
    ) -> None:
        self._sessions = session_grpc.SessionServiceStub(channel)
        self._metadata = metadata
        self._ids = RequestIds()
        handlers = handler_grpc.HandlerServiceStub(channel)
        self._call = handlers.Attach(metadata=metadata)
        self._hello = handler_pb.Hello(
            app=app,
            protocol_version="1",
            client_name="bench",
            client_version="1",
            process_id=str(uuid.uuid4()),
            declarations=handler_pb.Declarations(message=True),
        )
        self._work: asyncio.Queue[handler_pb.Invocation] = asyncio.Queue(maxsize=100)

    async def attach(self) -> list[asyncio.Task[None]]:
        """Says hello and returns what keeps the line alive."""
        await self._say(handler_pb.HandlerFrame(hello=self._hello))
        welcome = await worker.next_of(handler_pb.AttachResponse, self._call)
        assert welcome is not None
        assert welcome.frames[0].HasField("welcome")
        return [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]

    async def replies(self, in_flight: int, count: int) -> dict[str, float]:
        """Takes the next turn, and replies to it by unary calls, `in_flight` at a time."""
        async with asyncio.timeout(WORK_TIMEOUT):
            turn = await self._work.get()

        async def one() -> None:
            request = session_pb.ReplyRequest(
                invocation_id=turn.invocation_id,
                attempt=turn.attempt,
                request_id=self._ids(),
                text=REPLY,
            )
            await self._sessions.Reply(request, metadata=self._metadata)

        result = await worker.closed_loop(one, in_flight=in_flight, count=count)
        outcome = handler_pb.Outcome(
            invocation_id=turn.invocation_id,
            attempt=turn.attempt,
            status=handler_pb.OUTCOME_STATUS_COMPLETED,
        )
        await self._say(handler_pb.HandlerFrame(outcome=outcome))
        return result

    async def _say(self, frame: handler_pb.HandlerFrame) -> None:
        await self._call.write(handler_pb.AttachRequest(frames=[frame]))

    async def _read(self) -> None:
        while response := await worker.next_of(handler_pb.AttachResponse, self._call):
            for frame in response.frames:
                if frame.HasField("invocation"):
                    await self._work.put(frame.invocation)

    async def _beat(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(BEAT)
            number += 1
            await self._say(handler_pb.HandlerFrame(beat=handler_pb.Beat(number=number)))


async def main() -> None:
    target, app, *pairs = sys.argv[1:]
    async with grpc.aio.insecure_channel(target) as channel:
        handler = Handler(channel, app, worker.metadata(pairs))
        alive = await handler.attach()
        await worker.serve({"replies": handler.replies})
        for task in alive:
            task.cancel()


if __name__ == "__main__":
    worker.run(main)

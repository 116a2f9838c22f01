"""The floors: bare `grpc.aio` servicers on the very messages of the contract, that keep nothing.

They answer what the sidecar answers and do none of what it does. Only the ping-pong touches the
disk: one 4 KiB write and fdatasync for each message, at the end of a file that grows (`append`)
or inside one that has its size already (`overwrite`, where a flush has no metadata to write).

arguments: MODE (`batched` or `single`: one message per delta) and a directory for the ping-pong.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import (
    channel_service_pb2 as channel_pb,
)
from capsule_protocol.v1 import (
    events_pb2 as events_pb,
)
from capsule_protocol.v1 import (
    handler_service_pb2 as handler_pb,
)
from capsule_protocol.v1 import (
    session_service_pb2 as session_pb,
)
from capsule_protocol.v1 import (
    types_pb2 as types_pb,
)
from tests.bench import worker

AttachContext = grpc.aio.ServicerContext[handler_pb.AttachRequest, handler_pb.AttachResponse]
PAGE = 4096
LOG_PAGES = 1000
# What one follower may have waiting before the relay stops reading.
MAX_WAITING = 20_000
MESSAGE_ID = "01890000-0000-7000-8000-00000000000a"


def varint(number: int) -> bytes:
    """Returns a number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def frame(encoded: bytes) -> bytes:
    """Returns an encoded item as the first, repeated field of a batch."""
    return b"\x0a" + varint(len(encoded)) + encoded


class Follower:
    """One reader, and the encoded frames that wait for it."""

    def __init__(self, full: set[Follower]) -> None:
        self._waiting: list[bytes] = []
        self._full = full
        self._wake = asyncio.Event()

    def put(self, encoded: bytes) -> None:
        self._waiting.append(encoded)
        if len(self._waiting) == 1:
            self._wake.set()
        elif len(self._waiting) == MAX_WAITING:
            self._full.add(self)

    async def take(self) -> list[bytes]:
        await self._wake.wait()
        self._wake.clear()
        taken, self._waiting = self._waiting, []
        self._full.discard(self)
        return taken


class Bare:
    """The servicers."""

    def __init__(self, *, batched: bool, folder: Path) -> None:
        self._batched = batched
        self._folder = folder
        self._followers: dict[str, list[Follower]] = {}
        self._full: set[Follower] = set()
        self._drained = asyncio.Event()
        self._offset = 0

    async def reply(
        self, request: session_pb.ReplyRequest, context: object
    ) -> session_pb.ReplyResponse:
        """The unary echo."""
        return session_pb.ReplyResponse(message_id=MESSAGE_ID, offset=request.attempt)

    async def ping_pong(self, context: AttachContext, how: str) -> None:
        """One 4 KiB write and fdatasync, then the answer."""
        page = os.urandom(PAGE)
        log = os.open(self._folder / how, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        place = 0
        try:
            if how == "overwrite":
                os.pwrite(log, bytes(PAGE * LOG_PAGES), 0)
                os.fsync(log)
            while request := await worker.next_of(handler_pb.AttachRequest, context):
                os.pwrite(log, page, place)
                place += PAGE
                if how == "overwrite":
                    place %= PAGE * LOG_PAGES
                os.fdatasync(log)
                await context.write(self._answer(request.frames))
        finally:
            os.close(log)

    async def relay(self, context: AttachContext) -> None:
        """Passes deltas and replies on to their followers; answers replies."""
        while request := await worker.next_of(handler_pb.AttachRequest, context):
            replies = []
            for item in request.frames:
                command = item.command
                if command.HasField("append_stream"):
                    self._publish_delta(command.append_stream)
                else:
                    self._publish_reply(command.reply)
                    replies.append(item)
            if replies:
                await context.write(self._answer(replies))
            while self._full:
                self._drained.clear()
                await self._drained.wait()

    async def attach(self, unused: object, context: AttachContext) -> None:
        """Relays, or plays ping-pong when the call's metadata says so."""
        how = dict(context.invocation_metadata() or ()).get("flush")
        if how:
            await self.ping_pong(context, str(how))
        else:
            await self.relay(context)

    async def follow(
        self,
        request: channel_pb.FollowSessionRequest,
        context: grpc.aio.ServicerContext[Any, bytes],
    ) -> None:
        """Writes what waits; the next batch is what came meanwhile."""
        follower = Follower(self._full)
        group = self._followers.setdefault(request.session_id, [])
        group.append(follower)
        snapshot = events_pb.FollowFrame(snapshot=events_pb.Snapshot(first=True, last=True))
        follower.put(frame(snapshot.SerializeToString()))
        try:
            while True:
                taken = await follower.take()
                self._drained.set()
                if self._batched:
                    await context.write(b"".join(taken))
                else:
                    for one in taken:
                        await context.write(one)
        finally:
            group.remove(follower)
            self._full.discard(follower)
            self._drained.set()

    def _answer(self, frames: Iterable[handler_pb.HandlerFrame]) -> handler_pb.AttachResponse:
        return handler_pb.AttachResponse(
            frames=[
                handler_pb.SidecarFrame(
                    command_result=handler_pb.CommandResult(
                        tag=item.command.tag,
                        reply=session_pb.ReplyResponse(message_id=MESSAGE_ID, offset=1),
                    )
                )
                for item in frames
            ]
        )

    def _publish_delta(self, delta: session_pb.AppendStreamRequest) -> None:
        item = events_pb.FollowFrame(
            transient=events_pb.Transient(
                session_id=delta.invocation_id,
                text_delta=events_pb.TextDelta(stream_id=delta.stream_id, text=delta.text),
            )
        )
        self._publish(delta.invocation_id, item)

    def _publish_reply(self, reply: session_pb.ReplyRequest) -> None:
        self._offset += 1
        message = types_pb.Message(
            message_id=MESSAGE_ID, sender=types_pb.SENDER_APP, text=reply.text
        )
        item = events_pb.FollowFrame(
            event=events_pb.Event(
                session_id=reply.invocation_id,
                offset=self._offset,
                message_added=events_pb.MessageAdded(message=message),
            )
        )
        self._publish(reply.invocation_id, item)

    def _publish(self, session: str, item: events_pb.FollowFrame) -> None:
        encoded = frame(item.SerializeToString())
        for follower in self._followers.get(session, ()):
            follower.put(encoded)


def handlers(bare: Bare) -> list[grpc.GenericRpcHandler]:
    """Returns the few methods that there are."""
    package = "capsule_protocol.v1"
    return [
        grpc.method_handlers_generic_handler(
            f"{package}.SessionService",
            {
                "Reply": grpc.unary_unary_rpc_method_handler(
                    bare.reply,
                    session_pb.ReplyRequest.FromString,
                    session_pb.ReplyResponse.SerializeToString,
                )
            },
        ),
        grpc.method_handlers_generic_handler(
            f"{package}.HandlerService",
            {
                "Attach": grpc.stream_stream_rpc_method_handler(
                    bare.attach,
                    handler_pb.AttachRequest.FromString,
                    handler_pb.AttachResponse.SerializeToString,
                )
            },
        ),
        grpc.method_handlers_generic_handler(
            f"{package}.ChannelService",
            {
                # Without a serializer: the batches are joined from frames encoded once for all.
                "FollowSession": grpc.unary_stream_rpc_method_handler(
                    bare.follow, channel_pb.FollowSessionRequest.FromString, None
                )
            },
        ),
    ]


async def main() -> None:
    mode, folder = sys.argv[1:3]
    bare = Bare(batched=mode == "batched", folder=Path(folder))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers(bare))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await worker.serve({}, target=f"127.0.0.1:{port}")


if __name__ == "__main__":
    worker.run(main)

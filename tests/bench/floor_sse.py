"""The floor of live events: the bare relay of `floor_server`, its followers on HTTP.

A bare ASGI app on uvicorn: an event is encoded once, what waits for a follower goes out together.

arguments: a directory, as `floor_server` takes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import (
    session_service_pb2 as session_pb,
)
from tests.bench import worker
from tests.bench.floor_server import MESSAGE_ID, Bare, Follower, handlers
from tests.bench.web import serve

SESSION = "one"
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class BareSse(Bare):
    """Publishes replies as events of a stream that a browser reads."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Any GET follows the one session; a POST makes a name for it."""
        if scope["method"] != "GET":
            body = json.dumps({"session": {"session_id": SESSION}}).encode()
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 201, "headers": [length]})
            await send({"type": "http.response.body", "body": body})
            return
        follower = Follower(self._full)
        group = self._followers.setdefault(SESSION, [])
        group.append(follower)
        follower.put(b'data: {"snapshot":{"first":true,"last":true}}\n\n')
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            while True:
                taken = await follower.take()
                self._drained.set()
                body = b"".join(taken)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            group.remove(follower)
            self._full.discard(follower)
            self._drained.set()

    def _publish_reply(self, reply: session_pb.ReplyRequest) -> None:
        self._offset += 1
        message = {"message_id": MESSAGE_ID, "sender": "SENDER_APP", "text": reply.text}
        event = {
            "session_id": reply.invocation_id,
            "offset": str(self._offset),
            "message_added": {"message": message},
        }
        text = json.dumps({"event": event}, separators=(",", ":"))
        encoded = f"id: {self._offset}\ndata: {text}\n\n".encode()
        for follower in self._followers.get(reply.invocation_id, ()):
            follower.put(encoded)


async def main() -> None:
    bare = BareSse(batched=True, folder=Path(sys.argv[1]))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers(bare))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with serve(bare) as http:
        await worker.serve({}, target=f"127.0.0.1:{port}", http=http)


if __name__ == "__main__":
    worker.run(main)

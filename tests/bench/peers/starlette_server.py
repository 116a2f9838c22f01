"""Live events as one writes them by hand: Starlette, a queue for each reader, an event a token.

No storage, no handler process, no resume. A worker: says its address, then serves until it ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count as numbers

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.bench import worker
from tests.bench.texts import token
from tests.bench.web import serve

# Tokens that may wait for a reader before the writer does.
WINDOW = 1_000
Queue = asyncio.Queue[str]


class Chats:
    """The routes."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Queue]] = {}
        self._numbers = numbers(1)
        self._writers: set[asyncio.Task[None]] = set()

    async def open(self, request: Request) -> Response:
        """Opens a chat."""
        name = f"chat-{next(self._numbers)}"
        self._readers[name] = set()
        return JSONResponse({"session": {"session_id": name}}, 201)

    async def send(self, request: Request) -> Response:
        """Takes a message and begins to answer."""
        asked = await request.json()
        job = json.loads(asked["text"])
        writer = asyncio.create_task(
            self._answer(request.path_params["chat"], int(job["count"]), float(job["interval"]))
        )
        self._writers.add(writer)
        writer.add_done_callback(self._writers.discard)
        return JSONResponse({}, 202)

    async def events(self, request: Request) -> Response:
        """Streams a chat."""
        return StreamingResponse(
            self._stream(self._readers[request.path_params["chat"]]),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def _answer(self, chat: str, count: int, interval: float) -> None:
        readers = self._readers[chat]
        for place in range(count):
            # The loop turns once a token in any case, as it does for a model's.
            await asyncio.sleep(interval if place else 0)
            text = token(place)
            for queue in readers:
                await queue.put(text)

    async def _stream(self, readers: set[Queue]) -> AsyncIterator[str]:
        queue = Queue(WINDOW)
        readers.add(queue)
        try:
            yield ": welcome\n\n"
            while True:
                text = await queue.get()
                yield f"data: {text}\n\n"
        finally:
            readers.discard(queue)


async def main() -> None:
    chats = Chats()
    routes = [
        Route("/v1/sessions", chats.open, methods=["POST"]),
        Route("/v1/sessions/{chat}/messages", chats.send, methods=["POST"]),
        Route("/v1/sessions/{chat}/events", chats.events),
    ]
    async with serve(Starlette(routes=routes)) as target:
        await worker.serve({}, target=target)


if __name__ == "__main__":
    worker.run(main)

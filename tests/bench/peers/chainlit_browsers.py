"""Browsers on Chainlit: socket.io over a websocket each, as its own page speaks it.

Runs in the environment of scripts/tools/chainlit.lock. arguments: the server's address.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import socketio  # type: ignore[import-not-found]  # lives in its own environment

from tests.bench import worker

PATIENCE = 120.0
# Browsers that connect at once.
WIDTH = 50


class Browser:
    """One page: its own chat, since Chainlit gives each page one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket = socketio.AsyncClient(reconnection=False)
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._socket.on("clear_call_fn", self._greeted)
        self._socket.on("stream_start", self._token)
        self._socket.on("stream_token", self._token)
        self._socket.on("task_end", self._ended)
        self.tokens = 0
        self.first = self.last = 0.0

    async def open(self) -> None:
        """Connects as the page does; returns when the server has greeted it."""
        auth = {"sessionId": str(uuid.uuid4()), "clientType": "webapp", "userEnv": "{}"}
        await self._socket.connect(
            self._url,
            auth=auth,
            transports=["websocket"],
            socketio_path="/ws/socket.io",
            wait_timeout=PATIENCE,
        )
        await self._socket.emit("connection_successful")
        await self._ready.wait()

    async def ask(self, text: str, tokens: int) -> float:
        """Sends a message and reads the answer; returns when it was sent."""
        self.tokens = 0
        self.first = 0.0
        self._over.clear()
        message = {
            "id": str(uuid.uuid4()),
            "name": "User",
            "type": "user_message",
            "output": text,
            "createdAt": datetime.now(UTC).isoformat(),
        }
        start = time.perf_counter()
        await self._socket.emit("client_message", {"message": message, "fileReferences": []})
        await self._over.wait()
        if self.tokens != tokens:
            raise worker.WorkError(f"{self.tokens} tokens came of {tokens}")
        return start

    async def close(self) -> None:
        """Leaves for good: without this, the server keeps the session for an hour."""
        await self._socket.emit("clear_session")
        await self._socket.disconnect()

    async def _greeted(self, *unused: object) -> None:
        self._ready.set()

    async def _token(self, step: dict[str, Any]) -> None:
        self.last = time.perf_counter()
        if not self.tokens:
            self.first = self.last
        self.tokens += 1

    async def _ended(self, *unused: object) -> None:
        self._over.set()


class Browsers:
    """The commands."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._all: list[Browser] = []

    async def open(self, count: int) -> int:
        """Opens browsers until there are `count`, each with a chat of its own."""
        gate = asyncio.Semaphore(WIDTH)

        async def one() -> None:
            async with gate:
                browser = Browser(self._url)
                await browser.open()
                self._all.append(browser)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(one() for _ in range(count - len(self._all))))
        return len(self._all)

    async def run(self, text: str, tokens: int) -> dict[str, float]:
        """Sends `text` in every browser; returns what came of the `tokens` each."""
        busy = time.process_time()
        async with asyncio.timeout(PATIENCE):
            sent = await asyncio.gather(*(one.ask(text, tokens) for one in self._all))
        taken = worker.Latencies()
        for start, browser in zip(sent, self._all, strict=True):
            taken.add(browser.first - start)
        seconds = max(one.last for one in self._all) - min(sent)
        total = tokens * len(self._all)
        return {
            "rate": total / seconds,
            "tokens": total,
            "first": taken.summary()["p50"],
            "busy": (time.process_time() - busy) / seconds,
        }

    async def first_tokens(self, text: str, tokens: int, count: int) -> dict[str, float]:
        """Sends `text` in the first browser, `count` times; returns the times to a first token."""
        taken = worker.Latencies()
        browser = self._all[0]
        for _ in range(count):
            start = await browser.ask(text, tokens)
            taken.add(browser.first - start)
        return taken.summary()

    async def leave(self) -> None:
        """Ends all of them."""
        await asyncio.gather(*(one.close() for one in self._all))
        self._all.clear()


async def main() -> None:
    browsers = Browsers(sys.argv[1])
    await worker.serve(
        {
            "open": browsers.open,
            "run": browsers.run,
            "first_tokens": browsers.first_tokens,
            "leave": browsers.leave,
        }
    )


if __name__ == "__main__":
    asyncio.run(main())

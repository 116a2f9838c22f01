"""HTTP from the measuring side: bare sockets, so that what is measured is the server.

A request with a length on a connection that stays open, and a reader of event streams.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from tests.bench.worker import WorkError

TIMEOUT = 60.0
HEAD_END = b"\r\n\r\n"


class Link:
    """A connection that asks one thing after the other, and keeps the cookie that it is given."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.cookie = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Returns the JSON of the answer; raises `WorkError` for a status above 299."""
        # A server ends a connection that nobody has used for a while.
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            host, _, port = self.target.rpartition(":")
            self._streams = await asyncio.open_connection(host, int(port))
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if data else ""
        writer.write(head(self, method, path, f"{kind}Content-Length: {len(data)}\r\n") + data)
        async with asyncio.timeout(TIMEOUT):
            lines = (await reader.readuntil(HEAD_END)).decode("latin-1").split("\r\n")
            fields = [(name.lower(), value.strip()) for name, _, value in
                      (line.partition(":") for line in lines[1:])]  # fmt: skip
            length = int(dict(fields).get("content-length", 0))
            content = await reader.readexactly(length)
        for name, value in fields:
            if name == "set-cookie":
                self.cookie = value.partition(";")[0]
        if not lines[0].split(" ")[1].startswith("2"):
            raise WorkError(f"{method} {path}: {lines[0]} {content[:300]!r}")
        return json.loads(content) if content else None

    def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def head(link: Link, method: str, path: str, more: str) -> bytes:
    """Returns the lines before a request's body."""
    cookie = f"Cookie: {link.cookie}\r\n" if link.cookie else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {link.target}\r\n{cookie}{more}\r\n".encode()


class Events(asyncio.Protocol):
    """The reader of one event stream: gives what comes to `take`, as it comes.

    Chunks are not taken apart: every server here writes whole lines into a chunk, so that the
    lines of a chunk's frame stand between those of events.
    """

    def __init__(self, request: bytes, take: Callable[[bytes], None]) -> None:
        self._request = request
        self._take = take
        self._head: bytes | None = b""
        self._transport: asyncio.Transport | None = None
        # Why it ended. None: it goes on, or ended because it was told to.
        self.failure: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not looked at with isinstance: uvloop's own are of no class of asyncio.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            before, found, data = self._head.partition(HEAD_END)
            if not found:
                return
            self._head = None
            if b" 200 " not in before.split(b"\r\n")[0]:
                self.failure = f"{before[:100]!r} {data[:300]!r}"
                return
        self._take(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None and self.failure is None:
            self.failure = "the server ended a follower's stream"

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


async def read_events(link: Link, path: str, take: Callable[[bytes], None]) -> Events:
    """Opens an event stream on a connection of its own, with the cookie of `link`."""
    host, _, port = link.target.rpartition(":")
    request = head(link, "GET", path, "Accept: text/event-stream\r\n")
    _, events = await asyncio.get_running_loop().create_connection(
        lambda: Events(request, take), host, int(port)
    )
    return events

"""A line between two programs that a test can cut, refuse, slow down, truncate and silence.

    async with FaultProxy("127.0.0.1", port) as proxy:
        ...                 # connect to proxy.address instead
        proxy.cut()         # every connection is reset
        await proxy.refuse()  # and none is let in
        await proxy.restore()

It knows nothing of what it carries. What it holds back while it is silent is not lost: it comes
when the line speaks again, as it does with TCP when packets did not get through for a while.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

CHUNK = 65_536  # bytes that are read at once
# What the kernel takes from a client before anybody reads: left to itself, it grows to whole files,
# and a client that is held back would believe them sent.
TAKEN_IN = 4 * CHUNK  # bytes
PIECES = 50  # a throttled line forwards so often each second
CONNECT = 5.0  # seconds


@dataclass(eq=False)
class Line:
    """One connection that was accepted."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    sent: int = 0  # bytes towards the server
    received: int = 0  # bytes from it
    cut: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def reset(self) -> None:
        """Ends both halves with a reset, not with an orderly end."""
        self.cut = True
        for writer in (self.client, self.server):
            if writer is None:
                continue
            raw: socket.socket | None = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                linger = struct.pack("ii", 1, 0)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if self.task is not None:
            self.task.cancel()


class FaultProxy:
    """Forwards TCP from a free port of the loopback, which stays its own, to a target.

    Args:
        host: Where the target serves.
        port: Its port. Both may be changed: connections that are made from then on go there.

    Attributes:
        delay: Seconds that each chunk is held, in both directions.
        rate: Bytes a second from the target to each client; 0: as fast as it goes.
        accepted: Connections so far.
        truncated: Connections so far that were reset by `truncate`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.delay = 0.0
        self.rate = 0
        self.accepted = 0
        self.truncated = 0
        self._lines: set[Line] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._budget: int | None = None  # bytes from the target before the next reset
        # Bound and never listening: while new connections are refused, nobody else gets the port.
        self._place = _bound(0)
        self._own = int(self._place.getsockname()[1])
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FaultProxy:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        tasks = [line.task for line in self._lines if line.task is not None]
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._place.close()

    @property
    def address(self) -> str:
        """Where to connect to."""
        return f"127.0.0.1:{self._own}"

    @property
    def http(self) -> str:
        """The same as an address of HTTP."""
        return f"http://{self.address}"

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._lines)

    def target(self, host: str, port: int) -> None:
        """Sends connections that are made from now on to another place."""
        self.host, self.port = host, port

    def cut(self) -> None:
        """Resets every connection; new ones are let in unless they are refused."""
        for line in list(self._lines):
            line.reset()

    async def refuse(self) -> None:
        """Lets no new connection in: the kernel refuses them, as where nothing listens."""
        server, self._server = self._server, None
        if server is not None:
            server.close()  # waiting would wait for the connections, which may go on

    async def accept(self) -> None:
        """Lets connections in."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, sock=_bound(self._own), limit=CHUNK
            )

    def silence(self) -> None:
        """Forwards nothing in either direction, and lets connections in all the same."""
        self._speaking.clear()

    def truncate(self, after: int) -> None:
        """Resets the connection that carries the byte number `after` from the target, once."""
        self._budget = after

    async def restore(self) -> None:
        """Ends every fault; connections that were cut stay so."""
        self.delay, self.rate, self._budget = 0.0, 0, None
        self._speaking.set()
        await self.accept()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        line = Line(writer, task=asyncio.current_task())
        if self._server is None:  # it was accepted just before nobody was to be any more
            line.reset()
            return
        self._lines.add(line)
        try:
            async with asyncio.timeout(CONNECT):
                theirs, line.server = await asyncio.open_connection(
                    self.host, self.port, limit=CHUNK
                )
            await self._carry(line, reader, theirs)
        except OSError:  # a timeout is one too: the target is not there
            line.reset()
        except asyncio.CancelledError:
            if not line.cut:
                raise
        finally:
            self._lines.discard(line)
            for half in (line.client, line.server):
                if half is not None:
                    half.close()

    async def _carry(
        self, line: Line, ours: asyncio.StreamReader, theirs: asyncio.StreamReader
    ) -> None:
        assert line.server is not None
        up = asyncio.create_task(self._up(line, ours, line.server))
        down = asyncio.create_task(self._down(line, theirs, line.client))
        try:
            # What the client has said may have ended while the target still answers, not the other
            # way round: a target that closes is done with the client.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                up.result()  # raises what broke it
            await down
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK):
            await self._hold()
            line.sent += len(chunk)
            writer.write(chunk)
            await writer.drain()
        await self._speaking.wait()
        writer.write_eof()

    async def _down(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK):
            await self._hold()
            if self._budget is not None:
                chunk, rest = chunk[: self._budget], chunk[self._budget :]
                self._budget -= len(chunk)
                if rest or not self._budget:
                    self._budget = None
                    self.truncated += 1
                    writer.write(chunk)
                    # A reset drops what was not sent: the last bytes are to arrive before it.
                    await _sent(writer)
                    raise ConnectionResetError("truncated")
            for piece in self._pieces(chunk):
                line.received += len(piece)
                writer.write(piece)
                await writer.drain()
                if self.rate:
                    await asyncio.sleep(len(piece) / self.rate)
        await self._speaking.wait()

    async def _hold(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._speaking.wait()

    def _pieces(self, chunk: bytes) -> list[bytes]:
        size = max(1, self.rate // PIECES) if self.rate else len(chunk)
        return [chunk[at : at + size] for at in range(0, len(chunk), size)]


async def _sent(writer: asyncio.StreamWriter) -> None:
    """Waits until the kernel has everything, not only so much that there is room again."""
    transport = writer.transport
    transport.set_write_buffer_limits(0)
    await writer.drain()


def _bound(port: int) -> socket.socket:
    """Returns a socket that has a port of the loopback, which others may bind, not serve, too."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TAKEN_IN)  # those it accepts have it too
    made.bind(("127.0.0.1", port))
    return made

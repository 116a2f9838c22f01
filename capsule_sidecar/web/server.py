"""The HTTP server: uvicorn's protocol in the sidecar's own loop, with bounds on what may wait."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import resource
import socket
import struct
import termios
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn import Server as UvicornServer
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from capsule_sidecar.address import Address
from capsule_sidecar.config import Settings
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.web import problems
from capsule_sidecar.web.json_form import encode_bytes
from capsule_sidecar.web.problems import Problem

# Of a request's line and headers together: what nginx takes of four large ones.
_MAX_HEAD = 32 * 1024
_BACKLOG = 2048
# Left to the database, gRPC and logs of what files a process may open.
_OTHER_FILES = 256
_MAX_FILES = 1 << 20
# As many threads as asyncio's own pool has at the most.
_LOCAL_READS = 32
# Bytes that a reader must read in a second, where that much waits for it: averaged over the time
# that it is given.
_LEAST_RATE = 1024


class HttpServer:
    """Serves an ASGI application.

    Args:
        app: The application.
        settings: Where it listens, its certificate and its bounds.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._settings = settings
        tls = settings.tls
        if settings.web.trusted_proxies:
            app = ProxyHeadersMiddleware(app, list(settings.web.trusted_proxies))  # type: ignore[arg-type, assignment]  # uvicorn's own names for ASGI's types
        self._config = Config(
            app,
            http=_protocol(settings),
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.timing.keep_alive,  # type: ignore[arg-type]  # only call_later takes it
            timeout_graceful_shutdown=2,
            backlog=_BACKLOG,
            ssl_certfile=tls.cert_file,
            ssl_keyfile=tls.key_file,
        )
        # What it says of clients that send no HTTP, or go, is nothing an operator can act on.
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.ERROR)
        log.addFilter(_is_of_ours)  # once, however often
        self._server = UvicornServer(self._config)
        self._listens = False

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._server.server_state.connections)

    async def start(self) -> Address:
        """Listen and serve.

        Returns:
            The address, with the port that was picked.

        Raises:
            OSError: The address cannot be bound.
        """
        address = self._settings.http_address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
            sock.setblocking(False)
            self._config.load()
            # Its own loop and signals are not wanted: only what accepts and what closes.
            self._server.lifespan = self._config.lifespan_class(self._config)
            await self._server.startup(sockets=[sock])
            self._listens = True
        except BaseException:
            sock.close()
            raise
        return address.with_port(sock.getsockname()[1])

    async def stop(self) -> None:
        """Take no new connection, let what is being answered finish for 2 s, and end the rest."""
        if not self._listens:
            return  # its address could not be bound
        state = self._server.server_state
        await self._server.shutdown()
        for connection in list(state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=1.0)


def _is_of_ours(record: logging.LogRecord) -> bool:
    """Whether a failure is one of the sidecar: what ends because its reader has gone is none."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))


def _room(downloads: int) -> int:
    """Return how many connections the open files of this process leave room for.

    Args:
        downloads: What files that are being sent may have open at once.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_FILES
    return max(files - _OTHER_FILES - downloads, files // 2)


def _protocol(settings: Settings) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with the bounds of these settings."""
    # A directory's file is open while a piece of it is read, by one of the loop's threads; a
    # bucket's has a connection while its part comes.
    downloads = _LOCAL_READS
    if settings.files.url is not None:
        downloads = settings.limits.downloads + settings.limits.channel_downloads

    class Bounded(_BoundedProtocol):
        head_timeout = settings.timing.head_timeout
        write_timeout = settings.timing.write_timeout
        max_connections = min(settings.limits.connections, _room(downloads))

    return Bounded


class _BoundedProtocol(HttpToolsProtocol):
    """Ends connections whose requests' heads do not arrive, or are too large, and those not read.

    uvicorn waits for the next request of a connection with a time limit, but for the first, for
    the rest of one that has begun, and for a reader to take what was written, without any.
    """

    head_timeout: float
    write_timeout: float
    max_connections: int
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _unread = 0
    _head_size = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "TOO_MANY_CONNECTIONS", "there are too many connections")
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._in_head:
            self._head_size += len(data)
        # A body that goes on when its request was answered is waited for no longer than a head.
        cycle: Any = self.cycle  # none before the first request, whatever its annotation says
        answered = cycle is not None and cycle.response_complete
        if (self._in_head or answered) and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self._in_head and self._head_size > _MAX_HEAD and not self.transport.is_closing():
            self._refuse(
                431,
                "HEAD_TOO_LARGE",
                f"a request's line and headers have at most {_MAX_HEAD} bytes",
            )

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._in_head, self._head_size = False, 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        self._in_head = True
        self._stop_head_timer()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Let nothing more be written until the reader has read, for which it has its time."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Let more be written."""
        self._stop_stall_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that asks for nothing more, but let an answer be read."""
        if self._stall_timer is not None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for a reader that may never read
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "BAD_REQUEST", "this is no HTTP request that can be read")

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout, self._late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_reader(self) -> None:
        self._stop_stall_timer()
        self._unread = self._waiting()
        self._stall_timer = self.loop.call_later(self.write_timeout, self._stalled)

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stalled(self) -> None:
        self._stall_timer = None
        if self._unread - self._waiting() < _LEAST_RATE * self.write_timeout:
            self.transport.abort()
        else:
            self._await_reader()

    def _waiting(self) -> int:
        """Return how many bytes wait for the reader: here, and in the kernel's buffer.

        The kernel takes more only when much of its buffer is free, which a slow reader may need
        minutes for.
        """
        here = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        try:
            (kernel,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        except (OSError, AttributeError):
            return here
        return int(here + kernel)

    def _late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if not self._head_size:
            self.transport.close()  # nothing was asked, so there is nothing to answer
            return
        self._refuse(
            408, "REQUEST_TIMEOUT", f"the request did not arrive within {self.head_timeout:g} s"
        )

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        self._stop_head_timer()
        self._in_head = False
        cycle: Any = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if answering and not cycle.response_started and not self.pipeline:
            # Its body cannot be read to its end: this is its answer, and no other follows.
            cycle.disconnected, answering = True, False
            cycle.message_event.set()
        if not answering:  # else it would stand within another answer
            request_id = new_id("req")
            problem = Problem(status, reason, detail, request_id=request_id)
            data = encode_bytes(problems.body(problem))
            self.transport.write(
                STATUS_LINE[status]
                + f"content-type: {problems.MEDIA_TYPE}\r\nconnection: close\r\n"
                f"x-request-id: {request_id}\r\ncontent-length: {len(data)}\r\n\r\n".encode()
                + data
            )
        self.transport.close()

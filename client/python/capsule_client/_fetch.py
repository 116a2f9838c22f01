"""One GET of an address that a handler named, within narrow bounds."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from capsule_client.errors import LimitExceeded, Unavailable

if TYPE_CHECKING:
    from http.client import HTTPConnection
    from urllib.request import OpenerDirector

MAX_BYTES = 20 * 1024 * 1024
TIMEOUT = 10.0  # seconds in all
MAX_REDIRECTS = 5
_LEGAL = "%/:=&?~+!$,;'@()*[]"  # in a path or query; the rest is quoted, as browsers do
_PIECE_BYTES = 64 * 1024
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
# Of the first bytes, the name and the media type of an answer.
Refuse = Callable[[bytes, str, str], str]
_FIRST_GOOD, _LAST_GOOD = 200, 299


class Fetched(NamedTuple):
    """An answer.

    Attributes:
        body: Its bytes.
        content_type: What the answer says it is; may be empty.
        name: The last part of the address's path; may be empty.
        shown: The address without what may be secret in it.
    """

    body: bytes
    content_type: str
    name: str
    shown: str


async def fetch(url: str, refuse: Refuse, head: int) -> Fetched:
    """Loads an http(s) address in a thread of its own.

    `refuse` says, by the first `head` bytes (of a shorter answer all), its name and media type,
    why the answer is not wanted; empty where it is.

    Raises ValueError for an address that is malformed, holds a user name or password, redirects
    elsewhere than to http(s) or too often, is answered by an error, or with what is refused;
    LimitExceeded for more than MAX_BYTES; Unavailable where it cannot be reached or is not through
    within TIMEOUT.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Fetched] = loop.create_future()
    visit = _Visit(url, refuse, head)

    def report(fetched: Fetched | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif fetched is not None:
            done.set_result(fetched)

    def work() -> None:
        fetched, error = None, None
        try:
            fetched = visit.run()
        except BaseException as caught:  # noqa: BLE001 - raised again where it is waited for
            error = caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(report, fetched, error)

    # Not of the loop's pool: a resolver that hangs would keep a place there, and the process.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="capsule-fetch", daemon=True).start()
    try:
        async with asyncio.timeout(TIMEOUT):
            return await done
    except TimeoutError:
        raise Unavailable(f"{visit.shown} was not loaded within {TIMEOUT:g} s") from None
    finally:
        visit.abandon()


class _Visit:
    """One address on its way; `abandon` may be called from any thread."""

    def __init__(self, url: str, refuse: Refuse, head: int) -> None:
        from urllib.parse import unquote, urlsplit

        try:
            parts = urlsplit(url)
            host = parts.hostname
            port = f":{parts.port}" if parts.port else ""
        except ValueError as error:
            raise ValueError(f"the image's address is malformed: {error}") from None
        if not host:
            raise ValueError("the image's address names no host")
        self._url = url
        self._refuse = refuse
        self._head = head
        self._until = time.monotonic() + TIMEOUT
        self._connections: list[HTTPConnection] = []
        self._abandoned = False
        self.shown = f"{parts.scheme}://{host}{port}{parts.path}"
        self.name = unquote(parts.path.rpartition("/")[2])

    def abandon(self) -> None:
        """Ends what still goes on."""
        self._abandoned = True
        for connection in self._connections:
            self._cut(connection)

    def run(self) -> Fetched:
        """Loads it; blocks."""
        from http.client import HTTPException, InvalidURL
        from urllib.error import URLError

        try:
            with self._open() as answer:
                if not _FIRST_GOOD <= answer.status <= _LAST_GOOD:
                    raise ValueError(f"{self.shown} is answered by {answer.status}")
                told = str(answer.headers.get("Content-Type", ""))
                return Fetched(self._body(answer, told), told, self.name, self.shown)
        except (InvalidURL, UnicodeError) as error:
            raise ValueError(f"{self.shown} is no valid address: {error}") from None
        except URLError as error:
            raise Unavailable(f"{self.shown} cannot be reached: {error.reason}") from error
        except (HTTPException, OSError) as error:
            raise Unavailable(f"{self.shown} cannot be loaded: {error!r}") from error

    def _open(self) -> Any:
        """Returns the answer at the end of all redirects, whatever its status."""
        from urllib.parse import quote, urljoin, urlsplit
        from urllib.request import Request

        opener = self._opener()
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            # The scheme is looked at, and the opener knows no other.
            headers = {"Accept": "image/*", "User-Agent": "capsule-client"}
            parts = urlsplit(url)._replace(fragment="")
            if "@" in parts.netloc:  # it would be sent nowhere, or to whom it is not meant for
                raise ValueError(
                    f"{self.shown} has a user name or password in its address: they are not sent;"
                    " load it yourself and pass the bytes"
                )
            asked = parts._replace(
                path=quote(parts.path, _LEGAL), query=quote(parts.query, _LEGAL)
            ).geturl()
            answer = opener.open(Request(asked, headers=headers), timeout=self._left())  # noqa: S310
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            answer.close()  # what it says beside that is not read
            url = urljoin(url, target.strip())
            if not url.lower().startswith(("http://", "https://")):
                raise ValueError(f"{self.shown} leads to what is no http(s) address")
        raise ValueError(f"{self.shown} redirects more than {MAX_REDIRECTS} times")

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0 or self._abandoned:
            raise Unavailable(f"{self.shown} was not loaded within {TIMEOUT:g} s")
        return left

    def _body(self, answer: Any, told: str) -> bytes:
        declared = answer.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > MAX_BYTES:
            raise self._too_large()
        pieces: list[bytes] = []
        size, looked = 0, False
        while piece := answer.read1(_PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise self._too_large()
            if size >= self._head and not looked:
                self._look(b"".join(pieces), told)
                looked = True
            self._left()
        if declared.isdecimal() and size < int(declared):
            raise Unavailable(f"{self.shown} ended before its end")
        body = b"".join(pieces)
        if not looked:
            self._look(body, told)
        return body

    def _look(self, beginning: bytes, told: str) -> None:
        refused = self._refuse(beginning[: self._head], self.name, told)
        if refused:
            raise ValueError(f"what {self.shown} answers with is {refused}")

    def _too_large(self) -> LimitExceeded:
        return LimitExceeded(
            f"{self.shown} is larger than {MAX_BYTES} bytes",
            reason="LIMIT_EXCEEDED",
            metadata={"limit": "image", "maximum": str(MAX_BYTES)},
        )

    def _opener(self) -> OpenerDirector:
        from http.client import HTTPConnection, HTTPSConnection
        from urllib import request as urllib

        def connect(kind: type[HTTPConnection], *arguments: Any, **named: Any) -> HTTPConnection:
            connection = kind(*arguments, **named)
            self._connections.append(connection)
            if self._abandoned:
                raise OSError("abandoned")
            return connection

        class Plain(urllib.HTTPHandler):
            def http_open(self, req: urllib.Request) -> Any:
                return self.do_open(partial(connect, HTTPConnection), req)

        class Secure(urllib.HTTPSHandler):
            def https_open(self, req: urllib.Request) -> Any:
                return self.do_open(partial(connect, HTTPSConnection), req)

        opener = urllib.OpenerDirector()  # no ftp, file or data; redirects are ours
        for handler in (urllib.ProxyHandler(), Plain(), Secure()):
            opener.add_handler(handler)
        return opener

    @staticmethod
    def _cut(connection: HTTPConnection) -> None:
        # A read in another thread returns at once.
        sock = connection.sock
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS itself is left alone

"""A file as HTTP serves it: ranges, conditions, and headers that let no browser run it."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from capsule_sidecar.model.types import File
from capsule_sidecar.web.problems import Refusal

Read = Callable[[int, int], AsyncIterator[bytes]]

# What a browser shows and cannot run. Everything else is downloaded.
_SHOWN = frozenset(
    {
        "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp",
        "text/plain",
    }
)  # fmt: skip
_SHOWN_KINDS = ("audio/", "video/")
# What is downloaded as what it is. As any other type, a page of this origin might load it as a
# script, a style or a document.
_NAMED = frozenset(
    {
        "application/gzip", "application/json", "application/msword", "application/pdf",
        "application/rtf", "application/zip", "image/heic", "image/svg+xml", "image/tiff",
        "text/csv", "text/markdown",
    }
)  # fmt: skip
_NAMED_KINDS = ("application/vnd.",)
_OTHER = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class FileResponse:
    """An ASGI response: a file, or a range of it.

    Args:
        request: What was asked.
        file: The file.
        read: Yields its bytes from a position to another.
        seconds: How long its address is good for: it is kept no longer.
    """

    def __init__(self, request: Request, file: File, read: Read, seconds: float) -> None:
        self._read = read
        etag = f'"{file.sha256.hex()}"'
        shown = _is_shown(file.content_type)
        self._headers = {
            "etag": etag,
            "cache-control": f"private, max-age={max(0, int(seconds))}, immutable",
            "accept-ranges": "bytes",
            "content-disposition": disposition(file.name, inline=shown),
            "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
        }
        self._start, self._end = 0, file.size
        if _matches(request.headers.get("if-none-match", ""), etag):
            self._status, self._end = 304, 0
            return
        self._status = 200
        self._headers["content-type"] = _media_type(file.content_type)
        # Of the whole file, whatever range of it is sent.
        digest = base64.b64encode(file.sha256).decode()
        self._headers["repr-digest"] = f"sha-256=:{digest}:"
        if request.method == "GET" and request.headers.get("if-range", etag) == etag:
            self._cut(request.headers.get("range", ""), file.size)
        self._headers["content-length"] = str(self._end - self._start)
        if request.method == "HEAD":
            self._end = self._start

    def _cut(self, asked: str, size: int) -> None:
        """Take one range; what is no range, or several, asks for everything."""
        found = _RANGE.fullmatch(asked.strip().replace(" ", ""))
        if found is None or found[1] == found[2] == "":
            return
        if not found[1]:
            start, end = max(0, size - int(found[2])), size
        else:
            start = int(found[1])
            last = int(found[2]) if found[2] else size - 1
            if last < start and found[2]:
                return
            end = min(size, last + 1)
        if start >= end:
            raise Refusal(
                416, "RANGE_NOT_SATISFIABLE", f"the file has {size} bytes",
                {"content-range": f"bytes */{size}"},
            )  # fmt: skip
        self._start, self._end, self._status = start, end, 206
        self._headers["content-range"] = f"bytes {start}-{end - 1}/{size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond. A store that fails before the first byte is answered as such."""
        begun = False
        if self._start < self._end:
            async with aclosing(self._read(self._start, self._end)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if not begun:
                        begun = True
                        await self._begin(send)
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    del piece
        if not begun:
            await self._begin(send)
        await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Send) -> None:
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in self._headers.items()]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})


def disposition(name: str, *, inline: bool) -> str:
    """Return a Content-Disposition (RFC 6266) that carries any name."""
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _is_shown(content_type: str) -> bool:
    return content_type in _SHOWN or content_type.startswith(_SHOWN_KINDS)


def _media_type(content_type: str) -> str:
    if content_type == "text/plain":
        return "text/plain; charset=utf-8"
    if _is_shown(content_type) or content_type in _NAMED or content_type.startswith(_NAMED_KINDS):
        return content_type
    return _OTHER


def _matches(given: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in tags or given.strip() == "*"

"""What `show_image` takes, as something that can be uploaded."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import re
import stat
from base64 import b64decode
from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from capsule_client._disk import off_loop, safe_name
from capsule_client._fetch import fetch
from capsule_client._files import PIECE_BYTES, Content, TurnFiles
from capsule_client.types import Attachment

_HEAD = 4096  # bytes that tell what a file is
_ADDRESS = re.compile(r"(https?|data):", re.IGNORECASE)
# What is meant as an address though none of ours, and would be looked for as a path.
_OTHER = re.compile(r"\s+(https?|data):|\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UNKNOWN = frozenset(("", "application/octet-stream", "binary/octet-stream"))
_BASE64 = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_EXTENSIONS = {
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
}


async def file_of(source: object, files: TurnFiles) -> str:
    """Returns the id of a file of this session that holds an image; uploads it where it must.

    Raises what `picture` raises, and what an upload or download does.
    """
    if not isinstance(source, Attachment):
        return await files.upload(await picture(source))
    if not source.content_type.lower().startswith("image/"):
        kind = f" but {source.content_type}" if source.content_type else ": its type is unknown"
        raise ValueError(f"attachment {source.name!r} is no image{kind}")
    if not source.id:
        raise ValueError(f"attachment {source.name!r} has no id")
    if files.holds(source):
        return source.id
    # Another session's, or not known: this one gets a copy of its own.
    folder = await off_loop(TemporaryDirectory)
    try:
        path = await files.download(source, Path(folder.name, safe_name(source.name)))
        return await files.upload(await picture(Path(path)))
    finally:
        await off_loop(folder.cleanup)


async def picture(source: object) -> Content:
    """Returns what `source` is: an http(s) or data URL, a path, or bytes.

    Raises TypeError for anything else, ValueError for what is no image and for an address of
    another scheme, OSError for a path that
    cannot be read, LimitExceeded and Unavailable as `fetch` does.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return await off_loop(_of_bytes, bytes(source), "", "", "these bytes are")
    if isinstance(source, str) and _ADDRESS.match(source):
        if source[:5].lower() == "data:":
            return await off_loop(_of_data_url, source)
        fetched = await fetch(source, refuse=_refuse, head=_HEAD)
        told = fetched.content_type
        what = f"what {fetched.shown} answers with is"
        return await off_loop(_of_bytes, fetched.body, fetched.name, told, what)
    if isinstance(source, str) and (not source or _OTHER.match(source)):
        begins = source.partition(":")[0][:40]
        raise ValueError(
            f"an image's address begins with http:, https: or data:, not {begins + ':'!r}"
            if source
            else "an image's address or path is empty"
        )
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if isinstance(path, str):
            return await off_loop(_of_path, Path(path))
    raise TypeError(
        "an image is an http(s) or data URL, a path, bytes or an Attachment, "
        f"not a {type(source).__qualname__}"
    )


def media_type(head: bytes, name: str = "", told: str = "") -> str:
    """Returns an image's media type; empty for what is no image.

    Its first bytes say what it is. Where they are of no kind that has a mark, what is told of it
    or its name says so, unless that names a kind whose mark is missing.
    """
    marked = _marked(head)
    if marked:
        return marked
    kind = told.partition(";")[0].strip().lower()
    if kind in _UNKNOWN:
        kind = mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith("image/") and kind not in _EXTENSIONS and head else ""


def _marked(head: bytes) -> str:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and (b"avif" in head[8:40] or b"avis" in head[8:40]):
        return "image/avif"
    if head.startswith(b"BM") and len(head) >= 26 and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg") or (
        text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text
    ):
        return "image/svg+xml"
    return ""


class _Bytes:
    """An image in memory."""

    def __init__(self, data: bytes, name: str, content_type: str) -> None:
        self.name = name or f"image{_EXTENSIONS.get(content_type, '')}"
        self.content_type = content_type
        self.size = len(data)
        self.sha256 = hashlib.sha256(data).digest()
        self._data = data

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Returns it from its beginning."""
        for at in range(0, self.size, PIECE_BYTES):
            yield self._data[at : at + PIECE_BYTES]


class _File:
    """An image on disk: read in pieces, never as a whole."""

    def __init__(self, path: Path, content_type: str, size: int) -> None:
        self.name = path.name
        self.content_type = content_type
        self.size = size
        self.sha256 = b""  # known only behind a second reading
        self._path = path

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Returns it from its beginning."""
        file: BinaryIO = await off_loop(self._path.open, "rb")
        try:
            while piece := await off_loop(file.read, PIECE_BYTES):
                yield piece
        finally:
            await off_loop(file.close)


def _of_bytes(data: bytes, name: str, told: str, what: str) -> Content:
    kind = media_type(data[:_HEAD], name, told)
    if not kind:
        raise ValueError(f"{what} no image")
    return _Bytes(data, name, kind)


def _of_path(path: Path) -> Content:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"{path} is no image: it is no file")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    kind = media_type(head, path.name)
    if not kind:
        raise ValueError(f"{path} is no image")
    return _File(path, kind, state.st_size)


def _of_data_url(url: str) -> Content:
    """Reads an address by RFC 2397: `data:[type][;base64],data`."""
    told, comma, data = url[5:].partition(",")
    if not comma:
        raise ValueError("the data URL has no comma before its data")
    body = unquote_to_bytes(data)
    if _BASE64.search(told):
        told = _BASE64.sub("", told)
        packed = b"".join(body.split())
        try:
            body = b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except ValueError as error:
            raise ValueError(f"the data URL is not base64: {error}") from None
    return _of_bytes(body, "", told or "text/plain", "the data URL is")


def _refuse(head: bytes, name: str, told: str) -> str:
    """Says why no more of an answer need be read than its beginning; empty where it need be."""
    if media_type(head, name, told):
        return ""
    kind = told.partition(";")[0].strip().lower()
    return "no image" if kind in _UNKNOWN or kind.startswith("image/") else f"no image but {kind}"

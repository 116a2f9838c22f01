"""An upload's body: a form with one file, taken as it comes and held nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.web.problems import Refusal

FIELD = "file"
# What the file is called, for who cannot write it as the part's filename: browsers write `"` there
# as `%22`, which a name may have too.
NAME_FIELD = "name"
# What a form may be beside its file: boundaries, and headers of its part.
AROUND = 64 * 1024
# What must come within the time that a body is waited for.
_LEAST = 16 * 1024


class FileForm:
    """Reads the file of a form, which may say before it what the file is called.

    Args:
        request: The request.
        timeout: Seconds in which something must come.
        deadline: Seconds in which all of it must come.

    Raises:
        Refusal: It is of another media type.
        InvalidArgument: It names no boundary.
    """

    def __init__(self, request: Request, timeout: float, deadline: float) -> None:
        media, options = parse_options_header(request.headers.get("content-type", ""))
        if media.lower() != b"multipart/form-data":
            raise Refusal(
                415, "UNSUPPORTED_MEDIA_TYPE", "the body must be multipart/form-data",
                {"accept": "multipart/form-data"},
            )  # fmt: skip
        try:
            self._parser = MultipartParser(
                options.get(b"boundary", b""),
                {
                    "on_part_begin": self._part_began,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ended,
                    "on_headers_finished": self._headers_ended,
                    "on_part_data": self._data,
                    "on_end": self._ended,
                },
            )
        except FormParserError:
            raise InvalidArgument("content-type", "names a boundary that is too long") from None
        if not options.get(b"boundary"):
            raise InvalidArgument("content-type", "must name the boundary of the form's parts")
        self._request = request
        self._timeout = timeout
        self._deadline, self._until = deadline, time.monotonic() + deadline
        self._size, self._total = 0, 0
        self._waited, self._came = 0.0, 0
        self._finished = False
        self._name, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._whole = False
        self._told: bytearray | None = None
        self._pieces: list[bytes] = []
        self.filename: str | None = None
        self.content_type = ""

    # -- what is read --------------------------------------------------------------------------

    async def open(self) -> None:
        """Read on to the file's first byte: its name and type are known then.

        Raises:
            InvalidArgument: It is no form, or the form has no file.
            LimitExceeded: It takes too long in all.
            Refusal: It does not come in time.
        """
        while self.filename is None:
            if not await self._read():
                raise InvalidArgument(FIELD, "is required: a part with a filename")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes, and read the form to its end.

        Raises:
            InvalidArgument: There is another part, or the form ends early.
            LimitExceeded: It takes too long in all.
            Refusal: It does not come in time.
        """
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if not await self._read():
                break
        if not self._whole:
            raise InvalidArgument("body", "ends before the form does")

    async def drop(self, maximum: int) -> None:
        """Read on and keep nothing, so that who is still sending can read the answer.

        Args:
            maximum: Bytes that are read at the most.
        """
        if "expect" in self._request.headers and not self._came:
            return  # who asks first is told before anything was sent
        try:
            async with asyncio.timeout(self._timeout):
                while not self._finished and maximum > 0:
                    maximum -= len(await self._receive())
        except (TimeoutError, Refusal, LimitExceeded):
            pass  # it has had its time: the connection is ended

    async def _read(self) -> bool:
        """Read and parse what comes next; tell whether there may be more."""
        if self._finished:
            return False
        data = await self._receive()
        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidArgument("body", "is no multipart form that can be read") from None
        # What stands before, behind and above the file is read too, and is nobody's file.
        if self._total - self._size > AROUND:
            raise InvalidArgument("body", f"has more than {AROUND} bytes beside its file")
        return True

    async def _receive(self) -> bytes:
        begun = time.monotonic()
        left = self._until - begun
        try:
            async with asyncio.timeout(min(self._timeout, left)):
                message = await self._request.receive()
        except TimeoutError:
            if left < self._timeout:
                raise LimitExceeded(
                    "upload_timeout", round(self._deadline),
                    f"an upload takes at most {self._deadline:g} s",
                ) from None  # fmt: skip
            raise self._late() from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        data: bytes = message.get("body", b"")
        self._finished = not message.get("more_body", False)
        self._came += len(data)
        self._total += len(data)
        # Only the waiting for the sender counts, not for the store.
        self._waited += time.monotonic() - begun
        if self._waited > self._timeout:
            if self._came < _LEAST and not self._finished:
                raise self._late()
            self._waited, self._came = 0.0, 1
        return data

    def _late(self) -> Refusal:
        return Refusal(
            408, "REQUEST_TIMEOUT",
            f"less than {_LEAST} bytes of the body arrived within {self._timeout:g} s",
            {"connection": "close"},
        )  # fmt: skip

    # -- what the parser finds -----------------------------------------------------------------

    def _part_began(self) -> None:
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ended(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_ended(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if name == NAME_FIELD:
            if self.filename is not None:
                raise InvalidArgument(NAME_FIELD, f"must come before {FIELD!r}")
            if self._told is not None:
                raise InvalidArgument(NAME_FIELD, "comes twice: a file has one name")
            self._told = bytearray()
            return
        if name != FIELD:
            shown = name[:64] or "a part without a name"
            raise InvalidArgument(
                shown, f"the form has one part named {FIELD!r}, and {NAME_FIELD!r} before it"
            )
        if self.filename is not None:
            raise InvalidArgument(FIELD, "comes twice: a form carries one file")
        if b"filename" not in options:
            raise InvalidArgument(FIELD, "must have a filename")
        told = options[b"filename"] if self._told is None else self._told
        self.filename = told.decode(errors="replace")
        self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.filename is None:  # a name, which is beside the file
            assert self._told is not None
            self._told += data[start:end]
            return
        self._size += end - start
        self._pieces.append(data[start:end])

    def _ended(self) -> None:
        self._whole = True

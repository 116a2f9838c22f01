"""Reading requests' bodies, within bounds on what all of them together may hold in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, NoReturn

from starlette.requests import Request

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.web.problems import Refusal
from capsule_sidecar.web.requests import network_of

_CLOSE = {"connection": "close"}
# How many times what is taken of a body is read and dropped, so that who sends it reads the
# refusal: a connection that is ended while something comes in is cut.
_DROPPED = 8
# So much of each body is not counted: what people type is taken, whoever floods the rest.
_FREE = 8 * 1024
# What one address may hold of the whole.
_SHARE = 4
# Of an operation that takes a title or an id.
SMALL = 16 * 1024


class Bodies:
    """Reads bodies.

    Args:
        limits: The size of one body, and of all that are being read.
        timing: How long a body may take to arrive.
    """

    def __init__(self, limits: Limits, timing: Timing) -> None:
        self._maximum = limits.max_body_bytes
        self._total = limits.bodies_in_flight
        self._timeout = timing.body_timeout
        self._held = 0
        self._by_address: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Bytes of bodies that are being read, beyond the first of each."""
        return self._held

    async def read_json(self, request: Request, *, small: bool = False) -> dict[str, Any]:
        """Return the JSON object of a request's body; without body and type, an empty one.

        Args:
            request: The request.
            small: Nothing large is expected.

        Raises:
            InvalidArgument: It is not a JSON object in UTF-8.
            LimitExceeded: It is too large.
            Refusal: It is of another media type, does not arrive in time, or too much is being
                read already.
        """
        with _Share(self, request) as share:
            data = await self._read(request, min(self._maximum, SMALL) if small else 0, share)
            return _parse(request, data)

    @asynccontextmanager
    async def held_body(self, request: Request) -> AsyncIterator[bytes]:
        """Give a request's body as it is, counted among what is being read until left.

        Raises:
            LimitExceeded: It is too large.
            Refusal: It does not arrive in time, or too much is being read already.
        """
        with _Share(self, request) as share:
            yield await self._read(request, 0, share)

    async def _read(self, request: Request, maximum: int, share: _Share) -> bytes:
        maximum = maximum or self._maximum
        announced = request.headers.get("content-length", "0")
        parts: list[bytes] = []
        size = int(announced) if announced.isdecimal() and len(announced) < 16 else 0
        # Whoever asks first is told before anything was sent.
        most = maximum if "expect" in request.headers else self._maximum * _DROPPED
        try:
            if size <= most:
                size = 0
                async with asyncio.timeout(self._timeout):
                    async for chunk in request.stream():
                        size += len(chunk)
                        if size > most:
                            break
                        if size <= maximum:
                            share.take(size)
                            parts.append(chunk)
                        else:
                            parts.clear()
                            share.give()
        except TimeoutError:
            raise Refusal(
                408, "REQUEST_TIMEOUT", f"the body did not arrive within {self._timeout:g} s",
                _CLOSE,
            ) from None  # fmt: skip
        if size > maximum:
            raise LimitExceeded("max_body_bytes", maximum, f"this body has at most {maximum} bytes")
        return b"".join(parts)

    def take(self, address: str, size: int) -> bool:
        """Hold more for an address; tell whether there is room for it."""
        mine = self._by_address.get(address, 0) + size
        if self._held + size > self._total or mine > self._total // _SHARE:
            return False
        self._held += size
        self._by_address[address] = mine
        return True

    def give(self, address: str, size: int) -> None:
        """Hold less for an address."""
        self._held -= size
        left = self._by_address.get(address, 0) - size
        if left > 0:
            self._by_address[address] = left
        else:
            self._by_address.pop(address, None)


class _Share(AbstractContextManager["_Share"]):
    """What one body holds of the whole; given back when left."""

    def __init__(self, bodies: Bodies, request: Request) -> None:
        self._bodies = bodies
        self._address = network_of(request.client.host if request.client else "")
        self._size = 0

    def take(self, size: int) -> None:
        """Hold as much as a body has by now.

        Raises:
            Refusal: There is no room.
        """
        more = size - _FREE - self._size
        if more <= 0:
            return
        if not self._bodies.take(self._address, more):
            raise Refusal(
                503, "BUSY", "too many large requests are being read; try again",
                {**_CLOSE, "retry-after": "2"},
            )  # fmt: skip
        self._size += more

    def give(self) -> None:
        """Hold nothing any more."""
        if self._size:
            self._bodies.give(self._address, self._size)
            self._size = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give()


def _parse(request: Request, data: bytes) -> dict[str, Any]:
    media = request.headers.get("content-type", "")
    if not data and not media:
        return {}
    if media.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(
            415, "UNSUPPORTED_MEDIA_TYPE", "the body must be application/json",
            {"accept": "application/json"},
        )  # fmt: skip
    if not data.strip():
        raise InvalidArgument("body", "is empty; give a JSON object, {} at least")
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        text = "nests too deep" if isinstance(error, RecursionError) else "is not JSON in UTF-8"
        raise InvalidArgument("body", text) from None
    if not isinstance(value, dict):
        raise InvalidArgument("body", "must be a JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")

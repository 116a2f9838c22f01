"""Calls of their own beside the line, on its connection: their steps, and trying again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import grpc.aio

from capsule_client._error_table import from_rpc
from capsule_client.errors import CapsuleError, Unavailable

T = TypeVar("T")

_TRIES = 9  # with nothing between them, while the line is there: about 10 s in all
_FIRST_DELAY = 0.05  # seconds, doubled each time
_MAX_DELAY = 3.0
_MAX_TOLD_DELAY = 60.0


class Reach(Protocol):
    """The line, as far as calls beside it need it."""

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """The channel; None while there is none."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What every call carries."""

    @property
    def connected(self) -> bool:
        """Whether the line is open now."""


class Tries:
    """How often a call was made in vain."""

    def __init__(self) -> None:
        self._counted = 0
        self._delay = _FIRST_DELAY

    def progress(self) -> None:
        """Begins to count anew."""
        self._counted = 0
        self._delay = _FIRST_DELAY

    async def wait(self, error: CapsuleError, *, lost: bool) -> None:
        """Waits before the next try; raises `error` where there is none."""
        limited = error.reason == "RATE_LIMITED"
        if not limited and not isinstance(error, Unavailable):
            raise error
        self._counted += limited or not lost
        if self._counted >= _TRIES:
            raise error
        self._delay = min(self._delay * 2, _MAX_DELAY)
        if limited:
            await asyncio.sleep(_told_delay(error) + self._delay * random.random())  # noqa: S311
            return
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads


def _told_delay(error: CapsuleError) -> float:
    """Returns after how many seconds the sidecar may have room, as it says."""
    told = error.metadata.get("retry_after_seconds", "")
    return min(float(told), _MAX_TOLD_DELAY) if told.isdecimal() else 0.0


def opened(reach: Reach) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
    """Returns channel and metadata; raises Unavailable while there are none."""
    if reach.channel is None or reach.metadata is None:
        raise Unavailable("there is no connection to the sidecar")
    return reach.channel, reach.metadata


async def step(taken: Awaitable[T], timeout: float) -> T:
    """Takes one step of a call; raises what its failure means in our errors."""
    try:
        return await timed(taken, timeout)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error


async def timed(taken: Awaitable[T], timeout: float) -> T:
    """Takes one step of a call; raises Unavailable where nothing moves for `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await taken
    except TimeoutError as error:
        raise Unavailable(f"nothing moved for {timeout:g} s") from error
    except grpc.aio.UsageError as error:
        raise Unavailable("the connection was closed") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unavailable("the connection was lost") from None  # the call was cancelled, not we

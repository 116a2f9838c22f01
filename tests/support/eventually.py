"""The one way a test waits for something to become so."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T]],
    *,
    timeout: float = ...,
    interval: float = ...,
    message: str = ...,
) -> T: ...


@overload
async def eventually(
    predicate: Callable[[], T],
    *,
    timeout: float = ...,
    interval: float = ...,
    message: str = ...,
) -> T: ...


async def eventually(
    predicate: Callable[[], Any],
    *,
    timeout: float = 20.0,
    interval: float = 0.01,
    message: str = "",
) -> Any:
    """Polls `predicate`, plain or async, until what it returns is truthy, and returns that.

    `timeout` and `interval` are seconds. An `AssertionError` raised by the predicate counts as
    "not yet". Raises `AssertionError` that names what was waited for and what was seen last.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    seen: object = None
    cause: BaseException | None = None
    while True:
        try:
            async with asyncio.timeout_at(max(end, loop.time() + interval)):
                found = predicate()
                value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            seen, cause = value, None
        except AssertionError as error:
            seen, cause = error, error
        except TimeoutError as error:
            if loop.time() < end:
                raise  # the predicate's own, not ours
            seen, cause = "the predicate did not return", error
        if loop.time() >= end:
            waited_for = message or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(
                f"not within {timeout:g} s: {waited_for} (last seen: {seen!r})"
            ) from cause
        await asyncio.sleep(interval)

"""Waiting with a deadline for something to become so."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_POLL_SECONDS = 0.01


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T]], *, timeout: float = ..., message: str = ...
) -> T: ...


@overload
async def eventually(
    predicate: Callable[[], T], *, timeout: float = ..., message: str = ...
) -> T: ...


async def eventually(
    predicate: Callable[[], Any], *, timeout: float = 10.0, message: str = ""
) -> Any:
    """Asks again and again, until what `predicate` returns is true, and returns that.

    Args:
        predicate: Plain or async. An AssertionError that it raises counts as "not yet".
        timeout: Seconds.
        message: What is waited for, in words for whoever reads the failure.

    Raises:
        AssertionError: when the time is over; it says what was seen last.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    seen: object = None
    cause: AssertionError | None = None
    while True:
        try:
            found = predicate()
            value = await found if inspect.isawaitable(found) else found
        except AssertionError as error:
            seen, cause = error, error
        else:
            if value:
                return value
            seen, cause = value, None
        if loop.time() >= end:
            waited_for = message or getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(
                f"not within {timeout:g} s: {waited_for} (last seen: {seen!r})"
            ) from cause
        await asyncio.sleep(_POLL_SECONDS)

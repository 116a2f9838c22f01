"""Any iterable as an async one; a plain iterable is pulled in a thread, so that it may block."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_AHEAD = 64  # items that the thread may be ahead of the loop


def pull(source: Any) -> AsyncIterator[Any]:
    """Returns an async iterator over `source`, async or plain.

    A list or tuple is read where it is. Any other plain iterable, which may wait for a model, is
    pulled in a thread of its own under the caller's context.

    Raises TypeError for a string (it would fall apart into letters), an awaitable and whatever
    else is no iterable.
    """
    if isinstance(source, str | bytes):
        raise TypeError("a stream is an iterable of strings, not one string; use reply() for that")
    if isinstance(source, AsyncIterable):
        return source.__aiter__()
    if isinstance(source, list | tuple):
        return _read(source)
    if isinstance(source, Iterable):
        return _Pump(source)
    hint = " (await it first)" if hasattr(source, "__await__") else ""
    raise TypeError(f"a stream is an iterable, not a {type(source).__qualname__}{hint}")


async def aclose(stream: Any) -> None:
    """Closes what an iterator holds open, where it can be closed."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


async def _read(source: Iterable[T]) -> AsyncIterator[T]:
    for item in source:
        yield item


class _Pump(AsyncIterator[T]):
    """Items of a plain iterable, pulled by a thread that is at most `_AHEAD` items ahead.

    A thread that waits inside the iterable when the reader leaves cannot be woken: it is a daemon,
    and ends (closing the iterable) with the item it waits for.
    """

    def __init__(self, source: Iterable[T]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._ready = asyncio.Event()
        self._over = False
        self._left = False
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._pull,), name="capsule-stream", daemon=True
        ).start()

    async def __anext__(self) -> T:
        while not self._items:
            if self._over:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            self._ready.clear()
            if not self._items and not self._over:
                await self._ready.wait()
        self._room.release()
        return self._items.popleft()

    async def aclose(self) -> None:
        """Tells the thread to end."""
        self._left = True
        self._room.release()

    def _pull(self) -> None:
        iterator: Any = None
        try:
            iterator = iter(self._source)
            for item in iterator:
                self._room.acquire()
                if self._left:
                    break
                self._items.append(item)
                if not self._ready.is_set():
                    self._wake()
        except BaseException as error:  # noqa: BLE001 - raised again where the reader waits
            self._error = error
        finally:
            with suppress(Exception):  # the reader has left or has the items: nobody to tell
                if hasattr(iterator, "close"):
                    iterator.close()
            self._over = True
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: there is no reader
            self._loop.call_soon_threadsafe(self._ready.set)

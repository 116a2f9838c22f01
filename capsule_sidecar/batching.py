"""What waits to be written to one stream: drained whole, written at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Outbox:
    """A bounded queue of encoded frames for one writer.

    Args:
        max_bytes: More than this waiting ends the stream: its reader does not read.
        batch_bytes: Where a batch closes; a larger frame travels alone.
    """

    def __init__(self, *, max_bytes: int, batch_bytes: int) -> None:
        self._frames: deque[bytes] = deque()
        self._size = 0
        # Of these, bytes that are bounded elsewhere.
        self._extra = 0
        self._max = max_bytes
        self._batch = batch_bytes
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._finished = False

    def put(self, frame: bytes, *, always: bool = False) -> bool:
        """Queue a frame; tell whether it fits. After the end there is nobody to read it.

        Args:
            frame: The frame.
            always: How many of these there can be is bounded elsewhere: they take no room from
                others.
        """
        if self._finished or self._error is not None:
            return True
        if always:
            self._extra += len(frame)
        elif self._size - self._extra + len(frame) > self._max and self._frames:
            return False
        self._frames.append(frame)
        self._size += len(frame)
        self._wake()
        return True

    def fail(self, error: BaseException) -> None:
        """End the stream with an error, at once."""
        if self._error is None:
            self._error = error
            self._wake()

    def finish(self) -> None:
        """End the stream when all is written."""
        self._finished = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def drain(self) -> bytes | None:
        """Wait for frames and return a batch of them joined, or None at the end.

        Raises:
            BaseException: What the stream was ended with.
        """
        while not self._frames and self._error is None and not self._finished:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        if not self._frames:
            return None
        if self._size <= self._batch:
            batch = b"".join(self._frames)
            self._frames.clear()
            self._size = self._extra = 0
            return batch
        parts = [self._frames.popleft()]
        size = len(parts[0])
        while self._frames and size + len(self._frames[0]) <= self._batch:
            parts.append(self._frames.popleft())
            size += len(parts[-1])
        self._size -= size
        self._extra = min(self._extra, self._size)
        return b"".join(parts)

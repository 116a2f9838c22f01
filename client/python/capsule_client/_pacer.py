"""The one timer under the deltas of all streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule_client._text import TextStream


class Pacer:
    """Marks the streams that have new text at common ticks, so that one batch carries them all.

    With an interval of 0 they are marked at once.
    """

    __slots__ = ("_interval", "_mark", "_streams", "_timer")

    def __init__(self, interval: float, mark: Callable[[TextStream], None]) -> None:
        self._interval = interval
        self._mark = mark
        self._streams: dict[TextStream, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: TextStream) -> None:
        """Has `stream` marked at the next tick."""
        if self._interval <= 0:
            self._mark(stream)
            return
        self._streams[stream] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            tick = (loop.time() // self._interval + 1) * self._interval
            self._timer = loop.call_at(tick, self._tick)

    def forget(self, stream: TextStream) -> None:
        """Takes a stream out that has ended."""
        self._streams.pop(stream, None)

    def close(self) -> None:
        """Ends the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._streams.clear()

    def _tick(self) -> None:
        self._timer = None
        streams, self._streams = self._streams, {}
        for stream in streams:
            self._mark(stream)

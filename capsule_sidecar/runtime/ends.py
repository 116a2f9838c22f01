"""Who waits for an invocation to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Ends:
    """Wakes those who wait for an invocation's end, as the dispatcher learns of it.

    What ends by way of another sidecar is not told here: whoever waits looks again by the clock.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Event]] = {}

    @contextmanager
    def waiter(self, invocation_id: str) -> Iterator[asyncio.Event]:
        """Enter an event that is set when the invocation has ended."""
        event = asyncio.Event()
        self._waiting.setdefault(invocation_id, []).append(event)
        try:
            yield event
        finally:
            waiting = self._waiting[invocation_id]
            waiting.remove(event)
            if not waiting:
                del self._waiting[invocation_id]

    def tell(self, invocation_id: str) -> None:
        """Wake those who wait for this one."""
        for event in self._waiting.get(invocation_id, ()):
            event.set()

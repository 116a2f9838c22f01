"""Who waits for an invocation to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# How often an end is looked for that another sidecar may have written, in seconds.
LOOK_AGAIN = 5.0


class _Waited:
    """An invocation that is waited for: by whom, and when one of them looks for all."""

    def __init__(self, now: float) -> None:
        self.told: list[asyncio.Event] = []
        self.look_at = now + LOOK_AGAIN


class Waiter:
    """One who waits for an invocation's end.

    Args:
        waited: What all who wait for it share.
    """

    def __init__(self, waited: _Waited) -> None:
        self._waited = waited
        self._told = asyncio.Event()
        waited.told.append(self._told)

    async def cause(self, until: float) -> bool:
        """Wait for a cause to look whether it has ended.

        That is that it was told to have ended, or that it is time to look by the clock and nobody
        else who waits for it has looked: however many they are, one looks.

        Args:
            until: By the loop's clock, when the wait is over.

        Returns:
            False: the wait is over.
        """
        clock = asyncio.get_running_loop()
        while (now := clock.time()) < until:
            if self._told.is_set():
                self._told.clear()  # what has ended may be begun anew, and end again
                return True
            if now >= self._waited.look_at:
                self._waited.look_at = now + LOOK_AGAIN
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, self._waited.look_at)):
                    await self._told.wait()
        return False

    def leave(self) -> None:
        """Wait no more."""
        self._waited.told.remove(self._told)


class Ends:
    """Wakes those who wait for an invocation's end, as the dispatcher learns of it.

    What ends by way of another sidecar is not told here: one of those who wait for it looks now and
    then, and tells the others.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, _Waited] = {}

    @contextmanager
    def waiter(self, invocation_id: str) -> Iterator[Waiter]:
        """Enter what waits for the invocation's end, from now on."""
        waited = self._waiting.get(invocation_id)
        if waited is None:
            waited = _Waited(asyncio.get_running_loop().time())
            self._waiting[invocation_id] = waited
        waiter = Waiter(waited)
        try:
            yield waiter
        finally:
            waiter.leave()
            if not waited.told:
                del self._waiting[invocation_id]

    def tell(self, invocation_id: str) -> None:
        """Wake those who wait for this one."""
        waited = self._waiting.get(invocation_id)
        for event in waited.told if waited is not None else ():
            event.set()

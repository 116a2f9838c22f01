"""Putting the clock forward, for tests of handlers: what is due by then is done at once."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from capsule_sidecar.model.errors import InvalidArgument, PermissionDenied
from capsule_sidecar.runtime.sweep import Sweep
from capsule_sidecar.storage import leases
from capsule_sidecar.storage.database import EVERY_APP
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.slots import Slots

logger = logging.getLogger("capsule.clock")

_LONGEST_MS = 10 * 366 * 86_400_000


class ClockHand:
    """Moves the clock of a sidecar that was started for tests.

    Args:
        journal: Whose clock it is.
        sweep: Does what is due.
        slots: Which processes have beaten.
        enabled: Whether the clock may be moved at all.
    """

    def __init__(self, journal: Journal, sweep: Sweep, slots: Slots, *, enabled: bool) -> None:
        self._journal = journal
        self._sweep = sweep
        self._slots = slots
        self._enabled = enabled
        self._moving = asyncio.Lock()
        if enabled:
            logger.warning("test_clock is on: whoever has the home's token can move the time")

    async def advance(self, by_ms: int) -> int:
        """Put the clock forward and do what is due by then.

        Args:
            by_ms: Milliseconds, from 1.

        Returns:
            The time that it is now: milliseconds since the Unix epoch.

        Raises:
            PermissionDenied: The sidecar was not started for it.
            InvalidArgument: It is no time, or more than ten years.
        """
        if not self._enabled:
            raise PermissionDenied("the clock stands: start the sidecar with CAPSULE_TEST_CLOCK=1")
        if not 1 <= by_ms <= _LONGEST_MS:
            raise InvalidArgument("by", "is 1 ms to 10 years")
        clock = self._journal.clock
        async with self._moving:
            now_ms = await self._journal.submit(
                EVERY_APP,
                partial(
                    leases.put_forward, clock=clock, ahead_ms=clock.ahead_ms + by_ms,
                    beating=self._slots.beating(),
                ),
            )  # fmt: skip
            self._sweep.wake()
            await self._sweep.once()
        return now_ms

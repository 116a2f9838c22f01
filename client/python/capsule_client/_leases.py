"""How long this process may act for what it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Seconds before its term at which a lease is given up: time to cancel what runs under it.
_MARGIN = 1.0
_MARGIN_SHARE = 0.2  # of a short term


def boot_clock() -> float:
    """Returns seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Leases:
    """The one term that all work of this process is held for.

    It counts from the sending of the last beat that was answered. Once it has passed, no later
    answer brings it back: what was held then is lost. May be used from any thread.
    """

    def __init__(self, clock: Callable[[], float] = boot_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._from = float("-inf")
        self.term = 15.0
        self.beat_interval = 3.0

    def now(self) -> float:
        """Returns the clock's seconds."""
        return self._clock()

    @property
    def until(self) -> float:
        """When, by the clock, what is held has to be given up."""
        return self._from + self.term - min(_MARGIN, self.term * _MARGIN_SHARE)

    def hold(self) -> bool:
        """Whether what is held may still be acted for."""
        return self._clock() < self.until

    def begin(self, sent: float) -> None:
        """Begins a term at `sent`, where nothing is held that an older one could have lost."""
        with self._lock:
            self._from = max(self._from, sent)

    def answered(self, sent: float) -> None:
        """Takes the answer to a beat sent at `sent` by the clock; ignores one sent too late."""
        with self._lock:
            if self._from < sent < self.until:
                self._from = sent

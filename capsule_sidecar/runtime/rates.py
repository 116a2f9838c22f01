"""How often, and how many at once: what one person may take of what all share.

Counted by each sidecar for itself: a limit against being flooded, not an account.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from capsule_sidecar.model.errors import RateLimited

# Whose count is kept at the most. A bucket that is full again says nothing and is let go first.
_KEPT = 50_000


class Rate:
    """A token bucket for each key: as many at once as come in a minute, then one by one.

    Args:
        what: What is counted, for the error.
        per_minute: How many.
    """

    def __init__(self, what: str, per_minute: int) -> None:
        self._what = what
        self._size = float(per_minute)
        self._per_second = per_minute / 60.0
        # What is left, and when that was so; the one least recently asked for first.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> None:
        """Take one.

        Raises:
            RateLimited: None is left; it says when there is one again.
        """
        now = time.monotonic()
        left, when = self._left.pop(key, (self._size, now))
        left = min(self._size, left + (now - when) * self._per_second)
        taken = left >= 1.0
        self._left[key] = (left - 1.0 if taken else left, now)
        if len(self._left) > _KEPT:
            self._left.popitem(last=False)
        if not taken:
            wait = math.ceil((1.0 - left) / self._per_second)
            raise RateLimited(
                f"too many {self._what}: at most {self._size:g} a minute", retry_after=wait
            )


class Shares:
    """How many of something each key has at once.

    Args:
        what: What is counted, for the error.
        maximum: How many each may have.
        retry_after: Seconds after which there may be room again, for the error.
    """

    def __init__(self, what: str, maximum: int, retry_after: int = 10) -> None:
        self._retry_after = retry_after
        self._what = what
        self._maximum = maximum
        self._counts: dict[Hashable, int] = {}

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    @contextmanager
    def one(self, key: Hashable) -> Iterator[None]:
        """Hold one until left.

        Raises:
            RateLimited: The key has as many as it may.
        """
        count = self._counts.get(key, 0)
        if count >= self._maximum:
            raise RateLimited(
                f"too many {self._what} at once: at most {self._maximum}",
                retry_after=self._retry_after,
            )
        self._counts[key] = count + 1
        try:
            yield
        finally:
            if self._counts[key] == 1:
                del self._counts[key]
            else:
                self._counts[key] -= 1

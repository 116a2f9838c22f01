"""How far a stream's text is sent and durable."""

from __future__ import annotations

from collections import deque


class Places:
    """The deltas of one stream that are under way, and the place up to which all is durable.

    A place is a revision and a position in code points. A replacement raises the revision;
    `_cuts` remembers how far back each one reached that is not durable yet.
    """

    __slots__ = ("_cuts", "_flight", "durable", "flying")

    def __init__(self) -> None:
        self.durable = (0, 0)  # revision and position
        self.flying = 0  # bytes under way
        self._cuts: list[tuple[int, int]] = []  # revision and position
        self._flight: deque[tuple[int, int, int]] = deque()  # revision, end, bytes of each delta

    def sent(self, revision: int, end: int, size: int) -> None:
        """Notes a delta of `size` bytes that ends at a place."""
        self._flight.append((revision, end, size))
        self.flying += size

    def cut(self, revision: int, position: int) -> None:
        """Notes that `revision` begins by cutting the text to `position`."""
        self._cuts.append((revision, position))

    def acknowledged(self, revision: int, position: int) -> int:
        """Takes over a durable place; returns the bytes that are no longer under way."""
        if (revision, position) <= self.durable:
            return 0
        self.durable = (revision, position)
        self._cuts = [cut for cut in self._cuts if cut[0] > revision]
        freed = 0
        while self._flight and self._flight[0][:2] <= (revision, position):
            freed += self._flight.popleft()[2]
        self.flying -= freed
        return freed

    def land(self) -> int:
        """Forgets what is under way; returns its bytes."""
        freed, self.flying = self.flying, 0
        self._flight.clear()
        return freed

    def base(self, length: int) -> int:
        """Returns up to where a text of `length` is durable as it is now."""
        return min([self.durable[1], length, *(position for _, position in self._cuts)])

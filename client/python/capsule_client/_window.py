"""How much may be under way at once, by the welcome's measure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Window:
    """Counts commands and bytes in flight; who finds no room waits in line.

    A single item larger than the whole window passes when nothing else is in flight.
    """

    __slots__ = ("_bytes", "_commands", "_max_bytes", "_max_commands", "_on_room", "_waiting")

    def __init__(self, commands: int, size: int, on_room: Callable[[], None]) -> None:
        self._max_commands = commands
        self._max_bytes = size
        self._commands = 0
        self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int, int]] = deque()
        self._on_room = on_room

    def resize(self, commands: int, size: int) -> None:
        """Takes over the figures of a welcome."""
        self._max_commands = commands
        self._max_bytes = size
        self._admit()

    @property
    def room_bytes(self) -> int:
        """Bytes that may be sent now beside what is in flight."""
        return self._max_bytes - self._bytes

    def try_take(self, commands: int, size: int) -> bool:
        """Takes room where there is some and nobody waits for it; says whether it did."""
        if self._waiting or not self._fits(commands, size):
            return False
        self._commands += commands
        self._bytes += size
        return True

    async def take(self, commands: int, size: int) -> None:
        """Takes room, waiting behind those who came before."""
        if self.try_take(commands, size):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, commands, size))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(commands, size)  # it was admitted and nobody came
            raise

    def take_bytes(self, size: int) -> None:
        """Takes room for bytes that `room_bytes` was asked for."""
        self._bytes += size

    def give(self, commands: int, size: int) -> None:
        """Gives room back."""
        self._commands -= commands
        self._bytes -= size
        if self._waiting:
            self._admit()
        self._on_room()

    def fail(self, error: Callable[[], Exception]) -> None:
        """Has everyone who waits for room raise an error of their own."""
        waiting, self._waiting = self._waiting, deque()
        for future, _, _ in waiting:
            if not future.done():
                future.set_exception(error())

    def _fits(self, commands: int, size: int) -> bool:
        if self._commands + commands > self._max_commands:
            return False
        return self._bytes + size <= self._max_bytes or self._bytes == 0

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting:
            future, commands, size = waiting[0]
            if not future.done():
                if not self._fits(commands, size):
                    return
                self._commands += commands
                self._bytes += size
                future.set_result(None)
            waiting.popleft()

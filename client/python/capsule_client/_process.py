"""What an app does to the process that serves nothing else: logs and signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable


def configure() -> None:
    """Logs to standard error where no logging is configured, and quiets gRPC's own log.

    gRPC tells of every connection that ends; what matters of that is in our log.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


class Signals:
    """SIGTERM and SIGINT as calls, for the time of a block; a third one does what it always did."""

    def __init__(self, life_fd: int | None) -> None:
        self.on_signal: Callable[[], None] | None = None
        self._count = 0
        self._life_fd = life_fd

    async def __aenter__(self) -> Signals:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._take)
            except (NotImplementedError, RuntimeError, ValueError):
                pass  # Windows, or not the main thread: Ctrl-C still cancels the main task
        if self._life_fd is not None:
            loop.add_reader(self._life_fd, self._orphaned)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._remove()
        if self._life_fd is not None:
            asyncio.get_running_loop().remove_reader(self._life_fd)

    def _orphaned(self) -> None:
        assert self._life_fd is not None
        asyncio.get_running_loop().remove_reader(self._life_fd)
        if self._count == 0:
            self._take()

    def _take(self) -> None:
        self._count += 1
        if self.on_signal is not None:
            self.on_signal()
        if self._count > 1:
            self._remove()

    @staticmethod
    def _remove() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.remove_signal_handler(number)
            except (NotImplementedError, RuntimeError, ValueError):
                pass  # as above

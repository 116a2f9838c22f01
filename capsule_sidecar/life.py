"""A parent process that goes without a word: its children see the end of a pipe that it held."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# The variable that names the pipe to a child, as the file descriptor of its reading side. The
# Python client reads it too.
LIFE_FD = "CAPSULE_LIFE_FD"


def inherited() -> int | None:
    """Takes the pipe out of the environment: what this process starts is not to see it.

    Returns:
        Its reading side; None where no parent gave one.
    """
    number = os.environ.pop(LIFE_FD, "")
    return int(number) if number.isascii() and number.isdigit() else None


@asynccontextmanager
async def watched(life_fd: int | None, gone: Callable[[], None]) -> AsyncIterator[None]:
    """Calls `gone` once, in the running loop, when the parent has ended, however that came about.

    Args:
        life_fd: What `inherited` returned.
        gone: What is called.
    """
    if life_fd is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(life_fd)
        gone()

    loop.add_reader(life_fd, ended)  # nobody writes: it can be read when it has ended
    try:
        yield
    finally:
        loop.remove_reader(life_fd)

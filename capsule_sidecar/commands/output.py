"""Standard output as commands write it: where it cannot be, one line says why, and they end."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class OutputError(Exception):
    """Standard output cannot be written.

    Args:
        why: What is wrong with it.
        unread: Nobody reads it any more, as behind `| head`: no reason to complain.
    """

    def __init__(self, why: str, *, unread: bool = False) -> None:
        super().__init__(f"Standard output cannot be written: {why}.")
        self.unread = unread


def check() -> None:
    """Refuses to begin where nothing could be told of what is done.

    Raises:
        OutputError: There is no standard output.
    """
    if sys.stdout is None:  # it was closed before the program began
        raise OutputError("it is closed")


def write(text: str) -> None:
    """Writes a text as it is.

    Raises:
        OutputError: It cannot be written.
    """
    check()
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise _refusal(error) from error


def flush() -> None:
    """Writes what is held back; after this, what was written is out.

    Raises:
        OutputError: It cannot be written.
    """
    check()
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _refusal(error) from error


def give_up(error: OutputError) -> int:
    """Says why nothing more is written; returns the exit code."""
    if not error.unread:
        tell(str(error))
    if sys.stdout is not None:
        # What is held back is lost: the end of the program must not fail with it once more.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def tell(text: str, *, end: str = "\n") -> None:
    """Writes to standard error what is no result: an error, or a remark."""
    if sys.stderr is None:
        return
    with suppress(OSError):  # there is nowhere left to say so
        sys.stderr.write(text + end)
        sys.stderr.flush()


def _refusal(error: OSError) -> OutputError:
    return OutputError(error.strerror or str(error), unread=isinstance(error, BrokenPipeError))

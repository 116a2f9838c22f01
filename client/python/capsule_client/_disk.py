"""Files on this machine, read and written off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_NAME_BYTES = 255
# What a name may not hold on one system or another, beside the separators.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]')


async def off_loop(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that may block in a thread.

    Cancelled, it waits for the thread, so that what the thread holds can be let go of behind it.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # looked at: nobody else will
        raise


def safe_name(name: str) -> str:
    """Returns a file name that stays in its directory, is no hidden file, and is never empty."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _UNSAFE.sub("_", last).strip().lstrip(".").strip()
    while len(cleaned.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        stem, dot, suffix = cleaned.rpartition(".")
        cleaned = f"{stem[:-1]}{dot}{suffix}" if len(stem) > 1 else cleaned[:-1]
    return cleaned or "file"


class PartFile:
    """A file that is being written under a temporary name beside its own.

    Every method but the constructor blocks: call them by `off_loop`.

    Args:
        path: A directory that exists, or that ends in a separator, or the target itself.
        name: The file's own name, for a directory.
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        given = os.fspath(path)
        if not isinstance(given, str):
            raise TypeError(f"path is a string or a path, not {type(path).__qualname__}")
        if not given:
            raise ValueError("path is empty")
        self._given = given
        self._name = safe_name(name)
        self._target = Path()
        self._part = Path()
        self._file: Any = None
        self._digest = hashlib.sha256()
        self.size = 0

    def open(self) -> None:
        """Makes the parents and the temporary file."""
        separators = (os.sep, os.altsep or os.sep)
        target = Path(self._given)
        if target.is_dir() or self._given.endswith(separators):
            target /= self._name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a directory")
        self._target = target
        self._part = target.with_name(f".capsule-{secrets.token_hex(8)}.part")
        self._file = self._part.open("xb")

    def write(self, data: bytes) -> None:
        """Writes the next bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """Returns the SHA-256 of what was written."""
        return self._digest.digest()

    def commit(self) -> str:
        """Gives the file its own name, in place of another of that name; returns its path."""
        self._file.close()
        self._part.replace(self._target)
        self._file = None
        return str(self._target)

    def discard(self) -> None:
        """Removes what was not committed."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)
            self._file = None

"""The ways in which a sidecar's storage goes away, and how it looks afterwards."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.sidecar import SidecarProcess

_DISK = 24 * 1024 * 1024


class Trouble(Protocol):
    """A way to take a sidecar's storage away and to give it back."""

    def begin(self, process: SidecarProcess) -> None:
        """Takes it away."""

    def end(self) -> None:
        """Gives it back."""


class FullDisk:
    """The home lies on a small disk of its own, which somebody else fills."""

    def __init__(self, home: Path) -> None:
        self._filler = home / "filler"

    def begin(self, process: SidecarProcess) -> None:
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65_536)):
                    pass
            except OSError:
                pass  # it is full: that was wanted

    def end(self) -> None:
        self._filler.unlink()


@dataclass
class FileLimit:
    """No file of the sidecar may grow beyond a size, as under a quota."""

    pid: int = 0

    def begin(self, process: SidecarProcess) -> None:
        assert process.process is not None
        self.pid = process.process.pid
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (65_536, hard))

    def end(self) -> None:
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard, hard))


class Lock:
    """Another process writes, and does not come to an end."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._connection: sqlite3.Connection | None = None

    def begin(self, process: SidecarProcess) -> None:
        self._connection = sqlite3.connect(
            database_of(self._home), isolation_level=None, timeout=20
        )
        self._connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        assert self._connection is not None
        self._connection.execute("ROLLBACK")
        self._connection.close()


def database_of(home: Path) -> Path:
    """Returns the database's file."""
    (database,) = home.glob("*.db")
    return database


@contextmanager
def small_disk(home: Path) -> Iterator[None]:
    """Mounts a small file system at `home`; skips the test where that is not allowed."""
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(home)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def integrity(home: Path) -> str:
    """Returns what the database says of itself."""
    connection = sqlite3.connect(database_of(home))
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()

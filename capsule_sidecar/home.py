"""The home: the directory where a sidecar without configuration keeps everything it owns.

It is private to the user, and one sidecar at a time holds it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOKEN_BYTES = 32
SIGNING_BYTES = 32


class HomeError(Exception):
    """The home cannot be used. Its text is one line that names it."""


@dataclass(frozen=True)
class Home:
    """An open home."""

    path: Path
    # The operator's token: reaches every app and channel.
    token: str

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.path / "capsule.db"

    @property
    def files(self) -> Path:
        """What people upload."""
        return self.path / "files"

    @property
    def keys(self) -> Path:
        """Keys for signing and encryption."""
        return self.path / "keys"

    def signing_key(self) -> bytes:
        """Return what addresses are signed with: 32 random bytes, made when first asked for.

        Raises:
            HomeError: It cannot be read, or is not whole.
        """
        path = self.keys / "signing"
        try:
            if not path.exists():
                _write_whole(path, secrets.token_bytes(SIGNING_BYTES))
            path.chmod(0o600)
            key = path.read_bytes()
        except OSError as error:
            raise HomeError(f"{path} cannot be used: {error.strerror}") from error
        if len(key) != SIGNING_BYTES:
            raise HomeError(f"{path} does not hold a key: remove it to get a new one")
        return key

    @property
    def token_file(self) -> Path:
        """Where clients on this machine read the token."""
        return token_file(self.path)


def token_file(home: Path) -> Path:
    """Returns where a home's token is kept."""
    return home / "token"


@contextmanager
def open_home(path: Path) -> Iterator[Home]:
    """Makes the home where it is missing, and holds it until the block is left.

    Raises:
        HomeError: another sidecar holds it, or it cannot be read or written.
    """
    path = path.absolute()
    try:
        # A mode given to mkdir is cut by the umask and ignored for what exists.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeError(f"the home {path} cannot be used: {error.strerror}") from error
    try:
        _hold(lock, path)
        try:
            for name in ("files", "keys"):
                (path / name).mkdir(mode=0o700, exist_ok=True)
            token = _token(path)
        except OSError as error:
            raise HomeError(f"the home {path} cannot be used: {error}") from error
        yield Home(path, token)
    finally:
        # The lock goes with its descriptor, however the process ends. The file stays: removing it
        # would let two processes hold locks on two files of one name.
        os.close(lock)


def _hold(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        who = f" (process {holder})" if holder.isdigit() else ""
        raise HomeError(f"another sidecar{who} uses the home {path}") from None
    except OSError as error:  # a file system without locks
        raise HomeError(f"the home {path} cannot be locked: {error.strerror}") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)


def _token(home: Path) -> str:
    path = token_file(home)
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    except UnicodeDecodeError:
        raise HomeError(f"{path} does not hold a token: remove it to get a new one") from None
    if token:
        path.chmod(0o600)
        return token
    token = secrets.token_urlsafe(TOKEN_BYTES)
    _write_whole(path, f"{token}\n".encode("ascii"))
    return token


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a private file whole or not at all.

    A reader never sees one that is half written, and a crash leaves none that is empty. The home's
    lock keeps other writers away.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)

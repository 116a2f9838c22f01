"""Files of this computer that a person names in a chat."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from capsule_sidecar.model.filenames import type_by_name

UNKNOWN_TYPE = "application/octet-stream"
# What a compressed file is, whatever it holds.
_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}


class FileProblem(Exception):
    """A file cannot be sent. Its text is for the person."""


@dataclass(frozen=True)
class LocalFile:
    """A file with what is told of it before its bytes."""

    path: Path
    name: str
    content_type: str
    size: int
    sha256: bytes


def paths_of(typed: str) -> list[Path]:
    """Returns the files that were named: one as it is, or several in the words of a shell.

    A terminal that a file is dropped on types its path in quotes, or with backslashes.

    Of several, some may not be there: `look_at` says so of each.

    Raises:
        FileProblem: there is no such file, or none was named.
    """
    typed = typed.strip()
    if not typed:
        raise FileProblem("which file? Give its path")
    whole = _path(typed)
    if os.path.lexists(whole):
        return [whole]
    try:
        words = shlex.split(typed)
    except ValueError:  # an open quote
        words = [typed]
    paths = [_path(word) for word in words]
    if not any(os.path.lexists(path) for path in paths):
        # Most likely the whole was one path with spaces in it.
        raise FileProblem(f"there is no file {whole}")
    return paths


def look_at(path: Path) -> LocalFile:
    """Reads a file to its end, and tells what it is. Blocks: to be called in a thread.

    Raises:
        FileProblem: it is not there, is no plain file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe has no end, a directory no bytes
            kind = "a directory" if path.is_dir() else "no plain file"
            raise FileProblem(f"{path} is {kind}")
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(1024 * 1024):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        if not os.path.lexists(path):
            raise FileProblem(f"there is no file {path}") from error
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from error
    return LocalFile(path, path.name, content_type(path.name), size, digest.digest())


def content_type(name: str) -> str:
    """Returns the media type that a file's name tells."""
    known = type_by_name(name)  # as the sidecar has it, before what this machine says
    if known != UNKNOWN_TYPE:
        return known
    guess, encoding = mimetypes.guess_type(f"/{name}", strict=False)  # a path, never an address
    if encoding is not None:
        return _ENCODINGS.get(encoding, UNKNOWN_TYPE)
    return guess or UNKNOWN_TYPE


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~name` of nobody
        return Path(text)

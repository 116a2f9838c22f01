"""Traces the flushes of a sidecar: builds the library that is preloaded, and reads its notes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("flushes.c")
MARK = "durable-"


@dataclass(frozen=True)
class Noted:
    """One call of the sidecar, with its begin and end by the monotonic clock in nanoseconds."""

    kind: str
    begin: int
    end: int
    number: int
    path: str


def build(directory: Path) -> Path | str:
    """Returns the library, or a sentence that says why it cannot be built here."""
    library = directory / "flushes.so"
    said = _compile(library)
    if library.exists():
        return library
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-qq", "--no-install-recommends", "gcc", "libc6-dev"],
        ):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=180, check=False
            )
            said += done.stderr
        said += _compile(library)
    return library if library.exists() else f"flushes cannot be traced without a C compiler: {said}"


def _compile(library: Path) -> str:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return "no cc, gcc or clang. "
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def variables(library: Path, trace: Path) -> dict[str, str]:
    """Returns what a process that is to be traced has in its environment."""
    return {"LD_PRELOAD": str(library), "FAULTS_TRACE": str(trace), "FAULTS_MARK": MARK}


def text(number: int) -> str:
    """Returns a text that is found again in what is written."""
    return f"{MARK}{number:08} is on disk before it is acknowledged"


def read(trace: Path) -> list[Noted]:
    """Returns what was noted."""
    noted = []
    for line in trace.read_text().splitlines():
        kind, begin, end, number, path = line.split(" ", 4)
        noted.append(Noted(kind, int(begin), int(end), int(number), path))
    return noted

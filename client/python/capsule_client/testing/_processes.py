"""The process of a test's sidecar: started anew, or forked from one that has loaded it all."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_END_SECONDS = 10.0
_LOAD_SECONDS = 60.0
_POLL_SECONDS = 0.005


class Process(ABC):
    """A sidecar process. What it writes is in the files `out` and `err` of its folder."""

    @abstractmethod
    def poll(self) -> int | None:
        """Returns its exit code; None while it runs."""

    @abstractmethod
    def end(self) -> None:
        """Ends it. Nothing of it is to be kept, so it need not take its leave."""


class Started(Process):
    """A process of its own, that ends with this one.

    Args:
        folder: Its working directory.
        arguments: Of `capsule-sidecar`.
        environment: Its variables.

    Raises:
        RuntimeError: capsule-sidecar is not installed.
    """

    def __init__(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self._process = subprocess.Popen(
                [*_command(), *arguments],
                env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=out, stderr=err,
            )  # fmt: skip

    def poll(self) -> int | None:
        """Returns its exit code; None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait(_END_SECONDS)
        assert self._process.stdin is not None
        self._process.stdin.close()


class Nursery:
    """Forks sidecars from a process that has loaded everything. `close` ends them all."""

    def __init__(self) -> None:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        self._process = subprocess.Popen(
            # -P: what lies in the folder that the tests are run in is no module of ours.
            [sys.executable, "-P", "-m", "capsule_client.testing._nursery"],
            env=variables, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    @staticmethod
    def possible() -> bool:
        """Tells whether this machine forks, and this environment has the sidecar."""
        # Elsewhere, what has loaded a system's libraries may not be forked.
        return sys.platform == "linux" and importlib.util.find_spec("capsule_sidecar") is not None

    def fork(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Process:
        """Returns a new process, as `Started` would be."""
        order = {
            "folder": str(folder), "arguments": list(arguments), "environment": dict(environment),
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return _Forked(self, folder)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends all that it has forked, and itself."""
        pipe = self._process.stdin
        assert pipe is not None
        if not pipe.closed:
            # Told, and not by the pipe's end alone: a process that the tests forked may hold that.
            with suppress(BrokenPipeError):
                pipe.write(b"\n")
                pipe.close()
        # It hears that once it has loaded everything, which a busy machine takes its time for.
        self._process.wait(_LOAD_SECONDS + _END_SECONDS)


class _Forked(Process):
    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder

    def poll(self) -> int | None:
        code = self._read("code")
        if code is not None:
            return code
        pid = self._read("pid")
        gone = not self._nursery.alive if pid is None else not _exists(pid)
        return -signal.SIGKILL if gone else None

    def end(self) -> None:
        until = time.monotonic() + _END_SECONDS
        # It may not have begun yet: then there is nothing to end until it has.
        while (pid := self._read("pid")) is None and self._nursery.alive:
            if time.monotonic() > until:
                raise RuntimeError("the sidecar that was to be forked did not come")
            time.sleep(_POLL_SECONDS)
        if pid is None or self._read("code") is not None:
            return
        while _exists(pid):
            with suppress(ProcessLookupError):  # gone since
                os.kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise RuntimeError(f"the sidecar (process {pid}) does not end")
            time.sleep(_POLL_SECONDS)

    def _read(self, name: str) -> int | None:
        try:
            return int((self._folder / name).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _command() -> list[str]:
    """Returns what runs the sidecar of this environment, else the one on the path."""
    if importlib.util.find_spec("capsule_sidecar") is not None:
        return [sys.executable, "-P", "-m", "capsule_client.testing._tied"]
    # One of another environment is not tied to us: where we are killed, it stays behind.
    found = shutil.which("capsule-sidecar")
    if found is None:
        raise RuntimeError(
            "capsule_client.testing runs a real sidecar, and there is none: install the package"
            " capsule-sidecar where your tests run"
        )
    return [found]

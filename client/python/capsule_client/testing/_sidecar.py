"""A sidecar of a test's own: a process on a temporary home, gone without a trace afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_POLL_SECONDS = 0.02
_END_SECONDS = 10.0
_LAST_WORDS = 4_000


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a sidecar serves.

    Attributes:
        address: `HOST:PORT` of its gRPC side.
        http: `http://HOST:PORT` of its HTTP side.
        token: What opens it.
    """

    address: str
    http: str
    token: str


class Sidecar:
    """A sidecar process. Made, it is on its way; `ready` waits for it, `end` ends it.

    It needs no event loop to be made, so that it can be on its way before the loop of the test is.

    Args:
        config: A `capsule.toml`: its text, or where it is.

    Raises:
        RuntimeError: capsule-sidecar is not installed.
    """

    def __init__(self, config: str | Path = "") -> None:
        command = _command()
        self._folder = Path(tempfile.mkdtemp(prefix="capsule-kit-"))
        self._home = self._folder / "home"
        # In the folder of the process, it would be read by itself.
        settings = self._folder / "settings.toml"
        text = config.read_text(encoding="utf-8") if isinstance(config, Path) else config
        settings.write_text(text, encoding="utf-8")
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        self._out: IO[bytes] = (self._folder / "out").open("wb")
        self._errors: IO[bytes] = (self._folder / "err").open("wb")
        self._process = subprocess.Popen(
            [
                *command, "serve", "--config", str(settings), "--home", str(self._home),
                "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
            ],
            env=variables | {"CAPSULE_TEST_CLOCK": "1"},
            cwd=self._folder, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._errors,
        )  # fmt: skip

    async def ready(self, timeout: float) -> Serving:
        """Waits until it serves.

        Raises:
            RuntimeError: It ended, or it does not serve in time; its words are in it.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (serving := self._serving()) is None:
            if (code := self._process.poll()) is not None:
                raise RuntimeError(f"the sidecar ended with exit code {code}:\n{self.words()}")
            if loop.time() >= end:
                raise RuntimeError(f"the sidecar is not ready after {timeout:g} s:\n{self.words()}")
            await asyncio.sleep(_POLL_SECONDS)
        return serving

    def _serving(self) -> Serving | None:
        said = (self._folder / "out").read_text(encoding="utf-8")
        for line in said.splitlines(keepends=True):
            if line.startswith("ready ") and line.endswith("\n"):
                told = dict(word.split("=", 1) for word in line.split()[1:])
                token = (self._home / "token").read_text(encoding="utf-8").strip()
                return Serving(told["grpc"], told["http"], token)
        return None

    def words(self) -> str:
        """Returns the end of what it has logged."""
        log = (self._folder / "err").read_text(encoding="utf-8", errors="replace")
        return log[-_LAST_WORDS:]

    def end(self) -> None:
        """Ends it and removes what it kept."""
        # Nothing of it is to be kept, so it need not take its leave.
        self._process.kill()
        self._process.wait(_END_SECONDS)
        self._out.close()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _command() -> list[str]:
    """Returns what runs the sidecar of this environment, else the one on the path."""
    script = Path(sys.executable).with_name("capsule-sidecar")
    if script.is_file():
        return [str(script)]
    if importlib.util.find_spec("capsule_sidecar") is not None:
        return [sys.executable, "-c", "from capsule_sidecar.cli import main; main()"]
    found = shutil.which("capsule-sidecar")
    if found is None:
        raise RuntimeError(
            "capsule_client.testing runs a real sidecar, and there is none: install the package"
            " capsule-sidecar where your tests run"
        )
    return [found]

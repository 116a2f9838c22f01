"""A sidecar of a test's own, on a temporary home; nothing of it is left afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from capsule_client.testing._processes import Nursery, Started

_POLL_SECONDS = 0.01
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

    Args:
        config: A `capsule.toml`: its text, or where it is.
        nursery: What forks it. None: it is started as a process of its own.

    Raises:
        RuntimeError: capsule-sidecar is not installed.
    """

    def __init__(self, config: str | Path = "", nursery: Nursery | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="capsule-kit-"))
        self._home = self._folder / "home"
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        try:
            text = config.read_text(encoding="utf-8") if isinstance(config, Path) else config
            # As `capsule.toml` of its working directory it would be read by itself.
            settings = self._folder / "settings.toml"
            settings.write_text(text, encoding="utf-8")
            self._process = (nursery.fork if nursery is not None else Started)(
                self._folder,
                [
                    "serve", "--config", str(settings), "--home", str(self._home),
                    "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
                ],
                variables | {"CAPSULE_TEST_CLOCK": "1"},
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

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
        for line in self._read("out").splitlines(keepends=True):
            if line.startswith("ready ") and line.endswith("\n"):
                told = dict(word.split("=", 1) for word in line.split()[1:])
                token = (self._home / "token").read_text(encoding="utf-8").strip()
                return Serving(told["grpc"], told["http"], token)
        return None

    def words(self) -> str:
        """Returns the end of what it has logged."""
        return self._read("err")[-_LAST_WORDS:]

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""  # it has not begun yet

    def end(self) -> None:
        """Ends it and removes what it kept; once is enough."""
        if self._folder.exists():
            self._process.end()
            shutil.rmtree(self._folder, ignore_errors=True)

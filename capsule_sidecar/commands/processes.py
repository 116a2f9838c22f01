"""Child processes that are run side by side: their output with a prefix, their end in order."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from capsule_sidecar.life import LIFE_FD

STOP_GRACE = 40.0  # seconds after SIGTERM: longer than any grace of what runs
MAX_LINE = 64 * 1024  # bytes of a line of output; a longer one is passed on in pieces


@dataclass
class Child:
    """A process of ours. Made by `Child.start`."""

    name: str
    command: Sequence[str]
    process: Process
    on_line: Callable[[str], None]
    _life: int  # what it reads the end of, where we are gone without having ended it
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        on_line: Callable[[str], None],
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """Starts a process whose lines of output, of both kinds, go to `on_line`.

        It has a process group of its own: Ctrl-C reaches whoever started it, who ends it in order.
        One of ours ends by itself, in order too, where whoever started it was killed.
        """
        its_life, life = os.pipe()  # ours is closed by the system when we end, however we do
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env={**(os.environ if env is None else env), LIFE_FD: str(its_life)},
                limit=MAX_LINE,
                process_group=0,
                pass_fds=(its_life,),
            )
        except BaseException:
            os.close(life)
            raise
        finally:
            os.close(its_life)
        child = cls(name, command, process, on_line, life)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            child._readers.append(asyncio.create_task(child._read(stream)))
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def wait(self) -> int:
        """Returns its exit code once it has ended and its output was read."""
        code = await self.process.wait()
        self._let_go()
        # Its own children may hold the pipes open: not waited for without bound.
        await asyncio.wait(self._readers, timeout=1.0)
        return code

    async def stop(self) -> int:
        """Ends it with SIGTERM, then SIGKILL; returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_GRACE):
                    await self.process.wait()
            except TimeoutError:
                # With what it started itself: its group is its own.
                os.killpg(self.process.pid, signal.SIGKILL)
        code = await self.wait()
        for reader in self._readers:
            reader.cancel()
        return code

    def _let_go(self) -> None:
        life, self._life = self._life, -1
        if life >= 0:
            os.close(life)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    self.on_line(error.partial.decode("utf-8", "replace"))
                return
            except asyncio.LimitOverrunError as error:
                line = await stream.readexactly(error.consumed)
            self.on_line(line.decode("utf-8", "replace").rstrip("\n"))


def program(name: str) -> str:
    """Returns a program of this very installation, or its name where that has none."""
    path = Path(sys.executable).with_name(name)
    return str(path) if path.is_file() else name


def called() -> str:
    """Returns what a person types to run `capsule-sidecar`, which may not be on the PATH."""
    name = "capsule-sidecar"
    path = sys.argv[0] if Path(sys.argv[0]).name == name else program(name)
    found = shutil.which(name)
    return name if found and Path(found).resolve() == Path(path).resolve() else path


async def first_of(*events: Awaitable[object], timeout: float | None = None) -> None:
    """Returns when one of several is done, or after `timeout` seconds; futures stay as they are."""
    futures = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for event, future in zip(events, futures, strict=True):
            if event is not future:
                future.cancel()


@dataclass(frozen=True)
class Ready:
    """Where a sidecar serves."""

    grpc: str  # HOST:PORT or unix:PATH
    http: str  # http://HOST:PORT; empty: it did not say


def ready_addresses(line: str) -> Ready | None:
    """Returns what a sidecar's `ready grpc=HOST:PORT http=http://HOST:PORT` line says.

    None: another line.
    """
    first, *rest = line.split() or [""]
    said = dict(word.split("=", 1) for word in rest if "=" in word)
    if first != "ready" or not said.get("grpc"):
        return None
    return Ready(said["grpc"], said.get("http", ""))


def attached_app(line: str) -> str:
    """Returns the app of a handler's `APP attached to ADDRESS (sidecar VERSION)` line.

    Empty: another line.
    """
    match = re.search(r"([a-z0-9][a-z0-9_-]*) attached to \S+ \(sidecar ", line)
    return match[1] if match else ""


def prefixed(name: str) -> Callable[[str], None]:
    """Returns what writes lines to standard output behind a name."""

    def write(line: str) -> None:
        sys.stdout.write(f"{name:<8}| {line}\n")
        sys.stdout.flush()

    return write


def quoted(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Returns a command as one types it, behind the variables it needs."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
    return " ".join([*variables, shlex.join(command)])


def ending(code: int) -> str:
    """Returns how a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"

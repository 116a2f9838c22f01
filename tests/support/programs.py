"""Programs as a person runs them: started, written to, read from, killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import sys
import termios
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.ports import steady_port

ROOT = Path(__file__).resolve().parents[2]
SIDECAR = str(Path(sys.executable).with_name("capsule-sidecar"))
CLIENT = str(Path(sys.executable).with_name("capsule-client"))
DEMO = str(ROOT / "examples" / "demo" / "app.py") + ":app"

# What a terminal obeys and does not show: colours, movements of the cursor, modes. At the end also
# the beginning of one, so that a place in the text stays where it is when the rest has come.
_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\].*?\x07|\r"
    r"|\x1b(?:\[[0-9;?]*|[()]|\][^\x07\x1b\n]*)?\Z"
)


@dataclass
class Program:
    """A process and all that it has written so far, both kinds of output together."""

    process: Process
    terminal: int | None = None  # our side of its terminal
    raw: bytearray = field(default_factory=bytearray, repr=False)
    _reader: asyncio.Task[None] | None = field(default=None, repr=False)
    _read: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # to its end

    @property
    def text(self) -> str:
        """The output without what only steers a terminal."""
        return _CONTROL.sub("", self.raw.decode("utf-8", "replace"))

    async def shows(self, text: str, *, after: int = 0, timeout: float = 40.0) -> int:
        """Waits until it has written a text behind a place; returns the place behind that text.

        On a terminal any space stands for any other: a row may end there.
        """
        pattern = re.escape(text)
        if self.terminal is not None:
            pattern = re.sub(r"(\\\s)+", r"\\s+", pattern)

        def found() -> int:
            match = re.compile(pattern).search(self.text, after)
            assert match is not None, f"no {text!r} in:\n{self.text[after:][-3000:]}"
            return match.end()

        return await eventually(found, timeout=timeout, message=f"{text!r} is shown")

    async def rest_of_line(self, place: int, timeout: float = 40.0) -> str:
        """Waits until the line that a place is in has ended; returns what is behind the place."""
        await eventually(
            lambda: "\n" in self.text[place:], timeout=timeout, message="the line ends"
        )
        return self.text[place:].partition("\n")[0]

    async def type(self, text: str) -> None:
        """Types a text; on a terminal, Enter is a carriage return."""
        if self.terminal is not None:
            os.write(self.terminal, text.replace("\n", "\r").encode())
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(text.encode())
            await self.process.stdin.drain()

    def end_input(self) -> None:
        """Nothing more will be typed."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    async def ends(self, *, timeout: float = 40.0) -> int:
        """Returns its exit code; what it has written was read then."""
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
        # What it has started may hold its output open. In steps: of one wait, a machine that stands
        # still for a moment leaves nothing.
        for _ in range(10):
            if self._read.is_set():
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._read.wait(), 0.1)
        return code

    async def kill(self) -> None:
        """Ends it with SIGKILL."""
        if self.process.returncode is None:
            self.process.kill()
        await self.ends()


@asynccontextmanager
async def running(
    command: Sequence[str] | str,
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path = ROOT,
    terminal: bool = False,
    parent: bool = False,
) -> AsyncIterator[Program]:
    """Runs a program, or a line of a shell; ends it with all that it started when left.

    A `parent` is asked to end first: what it started is in process groups of its own.
    """
    variables = {key: value for key, value in os.environ.items() if key[:8] != "CAPSULE_"}
    variables |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    # Any port for HTTP: several sidecars run at once, and nobody here opens a browser.
    variables |= {"CAPSULE_HTTP": "127.0.0.1:0", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    variables |= env or {}
    arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    ours, theirs = _terminal() if terminal else (None, PIPE)
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if terminal else STDOUT,
        env=variables,
        cwd=cwd,
        start_new_session=True,
    )
    program = Program(process, ours)
    if ours is not None:
        os.close(theirs)
        asyncio.get_running_loop().add_reader(ours, _read_terminal, program)
    else:
        program._reader = asyncio.create_task(_read_pipe(program))
    try:
        yield program
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL)[0 if parent else 1 :]:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                await program.ends(timeout=15.0)
                break
            except TimeoutError:
                continue
        if program._reader is not None:
            program._reader.cancel()
        if ours is not None:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)


@dataclass
class Place:
    """A home and the address of its sidecar, which stays the same over restarts."""

    home: Path
    env: dict[str, str]
    address: str = field(default_factory=lambda: f"127.0.0.1:{steady_port()}")

    @asynccontextmanager
    async def sidecar(self) -> AsyncIterator[Program]:
        """Runs the sidecar; it serves when the block begins."""
        command = [SIDECAR, "serve", "--home", str(self.home)]
        command += ["--grpc", self.address, "--http", "127.0.0.1:0"]
        async with running(command, self.env) as program:
            place = await program.shows("ready grpc=")
            self.address = (await program.rest_of_line(place)).split()[0]
            yield program

    def client_env(self) -> dict[str, str]:
        """What a client needs to find the sidecar."""
        return {**self.env, "CAPSULE_ADDRESS": self.address, "CAPSULE_HOME": str(self.home)}

    def app(self, target: str = DEMO) -> AbstractAsyncContextManager[Program]:
        """Runs a handler."""
        return running([CLIENT, "run", target], self.client_env())

    def chat(self, *options: str, terminal: bool = False) -> AbstractAsyncContextManager[Program]:
        """Runs a chat with the demo app."""
        command = [SIDECAR, "chat", "demo", "--as", "ada", *options]
        return running(command, self.client_env(), terminal=terminal)


def _terminal() -> tuple[int, int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    return ours, theirs


def _read_terminal(program: Program) -> None:
    assert program.terminal is not None
    try:
        chunk = os.read(program.terminal, 65_536)
    except OSError:  # the other side is closed
        chunk = b""
    if not chunk:
        asyncio.get_running_loop().remove_reader(program.terminal)
        program._read.set()
    program.raw += chunk


async def _read_pipe(program: Program) -> None:
    assert program.process.stdout is not None
    while chunk := await program.process.stdout.read(65_536):
        program.raw += chunk
    program._read.set()


def gone(pid: int) -> bool:
    """Whether a process has ended; also one that nobody has asked for its end yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    if not Path("/proc/self/stat").exists():
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


def free(address: str) -> bool:
    """Whether a port can be had."""
    host, _, port = address.rpartition(":")
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            mine.bind((host, int(port)))
        except OSError:
            return False
    return True


@contextmanager
def ended(pids: Sequence[int]) -> Iterator[None]:
    """Leaves none of our processes behind, whatever the test finds."""
    try:
        yield
    finally:
        for pid in pids:
            if not gone(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

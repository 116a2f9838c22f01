"""The handler processes that are killed and frozen, and the proxy that cuts their lines."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.eventually import eventually
from tests.support.sidecar import Running

# How the client logs that a handler raised, and what a script may ask for.
_RAISED = "failed, reference"
_ASKED = "Asked: "
_ROOT = Path(__file__).parents[2]


# What a sidecar that restarts under its followers runs with.
RESTARTING = {
    "CAPSULE_TIMING__LEASE_TERM": "10s",
    "CAPSULE_TIMING__FRESH_BEAT": "3s",
    "CAPSULE_TIMING__BEAT_INTERVAL": "1s",
    # Shorter than a stream: a sidecar that is asked to end leaves some open.
    "CAPSULE_TIMING__DRAIN_GRACE": "300ms",
    "CAPSULE_LIMITS__WAITING_MESSAGES": "1",
}


@dataclass
class Handlers:
    """What all handler processes of a test share: a directory with their notes, gates and logs."""

    running: Running
    directory: Path
    pace: float = 0.01
    module: str = "tests.faults.app"
    processes: list[HandlerProcess] = field(default_factory=list)

    async def start(self, address: str = "") -> HandlerProcess:
        """Starts a process, which attaches at `address` or directly."""
        log = (self.directory / f"handler-{len(self.processes)}.log").open("wb")
        variables: Mapping[str, str] = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")},
            "CAPSULE_ADDRESS": address or self.running.address,
            "CAPSULE_TOKEN": self.running.token,
            "FAULTS_NOTES": str(self.notes_path),
            "FAULTS_GATES": str(self.directory),
            "FAULTS_PACE": str(self.pace),
        }
        with log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module,
                cwd=_ROOT, env=variables, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        started = HandlerProcess(process, Path(log.name))
        self.processes.append(started)
        return started

    @property
    def notes_path(self) -> Path:
        """The file that all of them write to."""
        return self.directory / "notes.jsonl"

    def notes(self) -> list[dict[str, Any]]:
        """Returns what the processes noted so far, in the order of writing."""
        if not self.notes_path.exists():
            return []
        # The last line may be half written.
        whole, _, _ = self.notes_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def noted(self, what: str, timeout: float = 30.0, **fields: Any) -> dict[str, Any]:
        """Waits for a note and returns it."""
        wanted = fields | {"what": what}

        def found() -> dict[str, Any] | None:
            return next((note for note in self.notes() if wanted.items() <= note.items()), None)

        note = await eventually(found, timeout=timeout, interval=0.03, message=f"noted {wanted}")
        assert note is not None
        return note

    def surprises(self, known: str = _ASKED) -> str:
        """Returns what handlers raised that no message had asked for, with their tracebacks.

        Args:
            known: A part of what else may be raised.
        """
        found = []
        for process in self.processes:
            said = re.split(r"\n(?=\d{4}-\d\d-\d\d )", process.log.read_text())
            found += [
                entry
                for entry in said
                if _RAISED in entry and _ASKED not in entry and known not in entry
            ]
        return "\n".join(found)

    def open_gate(self, name: str) -> None:
        """Lets go on what holds at a gate."""
        (self.directory / name).touch()

    async def __aenter__(self) -> Handlers:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            await process.kill()


@dataclass
class HandlerProcess:
    """A handler process that a test holds by its id."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def attached(self) -> None:
        """Waits until it is attached."""
        await eventually(
            lambda: "attached to" in self.log.read_text(), timeout=30, interval=0.05,
            message="the handler process attaches",
        )  # fmt: skip

    def freeze(self) -> None:
        """Stops it where it stands."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Ends it as a crash does."""
        if self.alive:
            self.process.kill()
        await asyncio.wait_for(self.process.wait(), 30)


class Proxy:
    """A TCP proxy in front of a sidecar that can cut its lines and refuse new ones.

    Args:
        target: `host:port` to pass on to.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._lines: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.refusing = False

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> int:
        """Cuts every line; returns how many there were."""
        lines = list(self._lines)
        for line in lines:
            line.cancel()
        return len(lines)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            if not self.refusing:
                back, there = await asyncio.open_connection(*self._target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, there))
                    both.create_task(_copy(back, writer))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # either side went, or the line was cut
        finally:
            self._lines.discard(task)
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        lines = list(self._lines)
        self.cut()
        await asyncio.gather(*lines, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError("one side has ended the line")

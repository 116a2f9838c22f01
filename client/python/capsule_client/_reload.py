"""`capsule-client run --reload`: each change starts a new process; the old one finishes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from capsule_client.cli import LIFE_FD, READY_FD, TargetError, source_of

_log = logging.getLogger("capsule")

_LOOK = 0.3  # seconds between two looks at the files
_SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages", "venv", "build", "dist"))
_MAX_FILES = 20_000  # watched; more would make each look a burden


class Reloader:
    """Runs a target in a child process and looks for changes of the Python files around it.

    After a change a new child is started. Once that one is attached, the old one is asked to drain:
    it takes no new turn and finishes those it has. A child that does not come up, as for a syntax
    error, shows why, and the old one goes on.
    """

    def __init__(self, target: str, life_fd: int | None = None) -> None:
        self._target = target
        self._life_fd = life_fd  # a pipe that our own parent holds
        self._current: _Child | None = None
        self._leaving: set[_Child] = set()
        self._stop = asyncio.Event()
        self._reports: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serves until SIGTERM or Ctrl-C, then until the children have ended; returns 0.

        The end of the parent, where it holds a pipe to us, is as a signal.
        """
        try:
            source = source_of(self._target.rpartition(":")[0])
        except TargetError as error:
            _log.error("%s", error)
            return 2
        root = source.parent if source is not None else Path.cwd()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if self._life_fd is not None:
            loop.add_reader(self._life_fd, self._orphaned)
        seen = await asyncio.to_thread(_snapshot, root)
        await self._renew()
        try:
            while not await self._stopped(_LOOK):
                now = await asyncio.to_thread(_snapshot, root)
                if now != seen:
                    changed = sorted(path for path, _ in seen.items() ^ now.items())
                    _log.info(
                        "%s changed: starting anew", changed[0].removeprefix(f"{root}{os.sep}")
                    )
                    seen = now
                    await self._renew()
        finally:
            await self._end()
            if self._life_fd is not None:
                loop.remove_reader(self._life_fd)
        return 0

    async def _stopped(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    def _orphaned(self) -> None:
        assert self._life_fd is not None
        asyncio.get_running_loop().remove_reader(self._life_fd)
        if not self._stop.is_set():
            self._on_signal()

    def _on_signal(self) -> None:
        self._stop.set()
        for child in self._children():
            child.terminate()  # a second one tells it not to wait

    async def _renew(self) -> None:
        """Starts a child; the one before it is ended when the new one is ready."""
        unready = self._current
        child = await _Child.start(self._target)
        if unready is not None and not unready.ready:
            unready.terminate()  # it never served: what serves is the one it was to replace
            child.replaces, unready.replaces = unready.replaces, None
            self._leaving.add(unready)
        else:
            child.replaces = unready
        self._current = child
        report = asyncio.create_task(self._follow(child))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    async def _follow(self, child: _Child) -> None:
        """Sees one child through its life."""
        if await child.wait_ready():
            before, child.replaces = child.replaces, None
            if before is not None:
                self._leaving.add(before)
                before.terminate()
        code = await child.process.wait()
        child.close()
        self._leaving.discard(child)
        if child.terminated:
            return
        before = child.replaces
        if self._current is child and before is not None and before.process.returncode is None:
            self._current, child.replaces = before, None
            _log.error("the new version did not come up (%s): the old one goes on", code)
        else:
            _log.error("the app ended (%s); it is started anew after the next change", code)

    async def _end(self) -> None:
        for child in self._children():
            if not child.terminated:
                child.terminate()
        while self._reports:
            await asyncio.wait(self._reports)

    def _children(self) -> list[_Child]:
        current = self._current
        serving = [] if current is None else [current, current.replaces]
        return [child for child in (*serving, *self._leaving) if child is not None]


class _Child:
    """A process that serves the target."""

    def __init__(self, process: asyncio.subprocess.Process, ready_fd: int, life_fd: int) -> None:
        self.process = process
        self.ready = False
        self.terminated = False
        self.replaces: _Child | None = None
        self._ready_fd = ready_fd
        self._life_fd = life_fd

    @classmethod
    async def start(cls, target: str) -> _Child:
        """Starts it in a session of its own: Ctrl-C reaches the parent, which passes it on."""
        ready, child_ready = os.pipe()
        child_life, life = os.pipe()
        fds = (child_ready, child_life)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "capsule_client.cli", "run", target),
                env={
                    **os.environ,
                    # Bytecode is matched with its source by size and whole seconds: of two changes
                    # within one second, the first one's would be run for the second.
                    "PYTHONDONTWRITEBYTECODE": "1",
                    READY_FD: str(child_ready),
                    LIFE_FD: str(child_life),
                },
                pass_fds=fds,
                start_new_session=True,
            )
        except BaseException:
            os.close(ready)
            os.close(life)
            raise
        finally:
            for fd in fds:
                os.close(fd)
        return cls(process, ready, life)

    async def wait_ready(self) -> bool:
        """Returns True once it is attached, False when it has ended before."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        loop.add_reader(self._ready_fd, told.set)
        try:
            await told.wait()
        finally:
            loop.remove_reader(self._ready_fd)
        self.ready = os.read(self._ready_fd, 16) != b""
        return self.ready

    def terminate(self) -> None:
        """Asks it to finish what it has and end."""
        self.terminated = True
        if self.process.returncode is None:
            self.process.terminate()

    def close(self) -> None:
        """Closes the pipes."""
        os.close(self._ready_fd)
        os.close(self._life_fd)


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Returns time and size of the Python files below `root`."""
    found: dict[str, tuple[int, int]] = {}
    for path in _files(root):
        try:
            state = path.stat()
        except OSError:
            continue  # it went while we looked
        found[str(path)] = (state.st_mtime_ns, state.st_size)
        if len(found) == _MAX_FILES:
            break
    return found


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in _SKIPPED and not name.startswith(".")]
        for name in files:
            if name.endswith(".py"):
                yield Path(folder, name)

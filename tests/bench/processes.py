"""The processes that a measurement is made of, seen from the one that conducts it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 90.0
# A worker that answers later than this hangs: the longest single command fills a database.
ANSWER_TIMEOUT = 900.0
# Modules are compiled once and kept, as after any first start, whatever the shell asks for. In a
# directory of their own, so that nothing is left beside the sources.
COMPILED = {
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bench-pycache"),
}


class BenchError(Exception):
    """A process of a measurement failed; the text is what to show."""


class Proc:
    """A child process: its lines, its CPU time and its memory."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._started = time.perf_counter()
        self._name = " ".join(command)
        self._child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self._started

    def line(self, timeout: float = START_TIMEOUT) -> str:
        """Returns the next line of its output.

        Raises:
            BenchError: it ended, or wrote none within `timeout` seconds.
        """
        end = time.perf_counter() + timeout
        while b"\n" not in self._buffer:
            left = end - time.perf_counter()
            if left <= 0 or not self._selector.select(left):
                raise BenchError(f"no answer in {timeout:g} s from: {self._name}\n{self._errors()}")
            data = os.read(self._stdout.fileno(), 1 << 16)
            if not data:
                code = self._child.wait()
                raise BenchError(f"ended with {code}: {self._name}\n{self._errors()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def write(self, line: str) -> None:
        """Sends one line to its input."""
        assert self._child.stdin is not None
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()

    def cpu(self) -> float:
        """Returns the CPU seconds that all its threads have used so far.

        Raises:
            BenchError: it has ended.
        """
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text("ascii")
        except OSError as error:
            raise BenchError(f"gone: {self._name}\n{self._errors()}") from error
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Returns the bytes of memory that it holds now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """Ends it: asks first, then kills."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._log):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # what was not read by a child that is gone
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    def _errors(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")


class Worker(Proc):
    """A process of `tests.bench.worker`: takes commands as JSON lines and answers each."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        super().__init__([python, "-m", f"tests.bench.{module}", *arguments], env)
        try:
            self.ready: dict[str, Any] = self.answer(START_TIMEOUT)
        except BenchError:
            self.stop()
            raise

    def send(self, command: str, **arguments: object) -> None:
        """Gives a command without waiting for its answer."""
        self.write(json.dumps({"command": command, **arguments}))

    def answer(self, timeout: float = ANSWER_TIMEOUT) -> Any:
        """Returns the answer to the oldest unanswered command.

        Raises:
            BenchError: the command failed.
        """
        got = json.loads(self.line(timeout))
        if "error" in got:
            raise BenchError(f"{self._name}: {got['error']}")
        return got["result"]

    def ask(self, command: str, **arguments: object) -> Any:
        """Gives a command and returns its answer."""
        self.send(command, **arguments)
        return self.answer()


class Stage:
    """What a row has started; everything ends with the `with` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def worker(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> Worker:
        """Starts a worker, by the interpreter at `python`, and waits until it is ready."""
        return self._stack.enter_context(Worker(module, *arguments, env=env, python=python))

    def proc(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Proc:
        """Starts any process."""
        return self._stack.enter_context(Proc(command, env))

    def folder(self) -> Path:
        """Makes a directory on the disk that the repository is on."""
        build = ROOT / "build"
        build.mkdir(exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="bench-", dir=build)
        return Path(self._stack.enter_context(made))

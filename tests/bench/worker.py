"""The inside of a measuring process: commands come as JSON lines, one answer each, in order."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
SEED = 1
Command = Callable[..., Awaitable[object]]


class WorkError(Exception):
    """What was measured did not behave; the text is what to show."""


class Latencies:
    """Durations in seconds, kept compactly."""

    def __init__(self) -> None:
        self._all = array("d")

    def add(self, seconds: float) -> None:
        self._all.append(seconds)

    def __len__(self) -> int:
        return len(self._all)

    def summary(self) -> dict[str, float]:
        """Returns count, p50, p95, p99 and maximum, in seconds."""
        ordered = sorted(self._all)
        if not ordered:
            return {"count": 0, "p50": math.nan, "p95": math.nan, "p99": math.nan, "max": math.nan}
        last = len(ordered) - 1
        at = {
            f"p{share}": ordered[min(last, len(ordered) * share // 100)] for share in (50, 95, 99)
        }
        return {"count": len(ordered), **at, "max": ordered[-1]}


async def closed_loop(
    call: Callable[[], Awaitable[object]], *, in_flight: int, count: int
) -> dict[str, float]:
    """Keeps `in_flight` calls going until `count` are done.

    Returns the calls per second as `rate`, and the summary of their latencies.
    """
    left = count
    taken = Latencies()

    async def lane() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start = time.perf_counter()
            await call()
            taken.add(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(in_flight)))
    seconds = time.perf_counter() - start
    return {"rate": len(taken) / seconds, "seconds": seconds, **taken.summary()}


async def open_loop(
    call: Callable[[], Coroutine[Any, Any, object]], *, rate: float, seconds: float
) -> dict[str, float]:
    """Starts `rate` calls a second whatever the ones before them do, as independent callers would.

    The times between them are exponential, from the same seed on every side. A latency counts from
    when its call is made: a loop's timers are a millisecond coarse, which is as long as what is
    measured. How late the last one was made is returned as `late`.
    """
    taken = Latencies()
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        made = time.perf_counter()
        await call()
        taken.add(time.perf_counter() - made)

    late = 0.0
    times = random.Random(SEED)
    start = due = time.perf_counter()
    for _ in range(int(rate * seconds)):
        due += times.expovariate(rate)
        late = time.perf_counter() - due
        if late < 0:
            await asyncio.sleep(-late)
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    took = time.perf_counter() - start
    return {"rate": len(taken) / took, "seconds": took, "late": late, **taken.summary()}


class Readable(Protocol):
    """A stream's end that messages come from."""

    async def read(self) -> object: ...


async def next_of(kind: type[T], stream: Readable) -> T | None:
    """Returns the stream's next message. None: it has ended."""
    got = await stream.read()
    return got if isinstance(got, kind) else None


def metadata(pairs: Sequence[str]) -> list[tuple[str, str]]:
    """Returns a call's metadata from NAME=VALUE arguments."""
    return [(name, value) for name, _, value in (one.partition("=") for one in pairs)]


async def lines() -> asyncio.StreamReader:
    """Returns standard input as a stream."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def say(**answer: object) -> None:
    """Writes one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def serve(commands: Mapping[str, Command], **ready: object) -> None:
    """Says it is ready, then carries out commands until the input ends."""
    reader = await lines()
    say(result=ready)
    while line := await reader.readline():
        asked = json.loads(line)
        try:
            result = await commands[asked.pop("command")](**asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, the conductor shows it
            say(error=f"{type(error).__name__}: {error}")
        else:
            say(result=result)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a worker on the loop that the sidecar runs on."""
    import uvloop  # not at the top: a peer's environment has this module without it

    try:
        uvloop.run(main())
    except KeyboardInterrupt:
        sys.exit(130)

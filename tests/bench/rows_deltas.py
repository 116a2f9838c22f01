"""Text deltas from handler to follower: how many, how late, at what cost."""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_least, at_most
from tests.bench.processes import Stage, Worker
from tests.bench.sides import Floor, Sidecar
from tests.bench.texts import MESSAGE_DELTAS, STAMP_SIZE, TOKEN_SIZE

BATCHED = "a bare bidirectional relay with the same batching"
SINGLE = "a bare bidirectional relay, one message a delta"
RATE = 50.0
# How many a round: about a second on each side.
BARE_DELTAS = 150_000
DELTAS = 600_000
# Between giving the jobs and the first delta: every stream begins on time.
LEAD = 0.5
LEAD_A_STREAM = 0.005


class Relay:
    """The floor: deltas pass a bare server to one follower for each stream."""

    def __init__(self, stage: Stage, streams: int, *, batched: bool = True) -> None:
        self.floor = Floor(stage, batched=batched)
        self._followers = self.floor.followers()
        self._sessions = [f"session-{number}" for number in range(streams)]
        self._followers.ask("follow", sessions=self._sessions)

    def run(self, each: int, rate: float = 0.0, *, stamped: bool = False) -> dict[str, Any]:
        """Sends `each` deltas to every stream; returns what the followers saw."""
        size = STAMP_SIZE if stamped else TOKEN_SIZE
        count = each * len(self._sessions)
        self._followers.ask("reset", watch="stamps" if stamped else "text")
        before = self.floor.server.cpu()
        self._followers.send("until_characters", count=count * size)
        sent = self.floor.client.ask(
            "deltas",
            sessions=self._sessions,
            each=each,
            interval=1 / rate if rate else 0.0,
            batched=self.floor.batched,
            stamped=stamped,
        )
        seen: dict[str, Any] = self._followers.answer()
        seen["cpu"] = self.floor.server.cpu() - before
        seen["rate"] = count / (seen["end"] - sent["start"])
        return seen


class Streams:
    """The subject: as many handlers stream a message each, to one follower each."""

    def __init__(self, stage: Stage, streams: int, *, interval: float | None = None) -> None:
        self.sidecar = Sidecar(stage)
        self._app = self.sidecar.app(interval)
        self._followers: Worker = self.sidecar.followers()
        self._sessions: list[str] = self.sidecar.person.ask("open", count=streams)
        self._followers.ask("follow", sessions=self._sessions)

    def run(self, each: int, rate: float = 0.0, *, stamped: bool = False) -> dict[str, Any]:
        """Streams `each` deltas to every session; returns what the followers saw."""
        size = STAMP_SIZE if stamped else TOKEN_SIZE
        self._followers.ask("reset", watch="stamps" if stamped else "text")
        messages = len(self._sessions) * math.ceil(each / MESSAGE_DELTAS)
        self._followers.send("until_completed", count=messages)
        begin = time.perf_counter() + LEAD + LEAD_A_STREAM * len(self._sessions)
        interval = 1 / rate if rate else 0.0
        for number, session in enumerate(self._sessions):
            apart = interval * number / len(self._sessions)
            self.sidecar.give(
                [session], "deltas", count=each, interval=interval, begin=begin + apart,
                stamped=stamped,
            )  # fmt: skip
        time.sleep(max(0.0, begin - time.perf_counter()))
        before = self.sidecar.server.cpu()
        starts = [self._app.answer()["start"] for _ in self._sessions]
        seen: dict[str, Any] = self._followers.answer()
        seen["cpu"] = self.sidecar.server.cpu() - before
        # The message that completes the last stream ends the time.
        seen["rate"] = seen["characters"] / size / (seen["end"] - min(starts))
        return seen


def deltas(settings: Settings) -> list[Line]:
    """As fast as they go, on 1, 20 and 100 streams; then without the client's interval."""
    lines = []
    for streams, interval in ((1, None), (20, None), (100, None), (20, 0.0)):
        by_default = interval is None
        line = Line(
            f"{streams} streams" + ("" if by_default else ", stream_interval=0"),
            "1/s",
            BATCHED,
            at_least(0.5),
        )
        shares: list[float] = []

        def take(bare: Any, ours: Any, line: Line = line, shares: list[float] = shares) -> None:
            line.add(bare["rate"], ours and ours["rate"])
            if ours:
                shares.append(1 - ours["late"] / ours["characters"])

        with Stage() as stage:
            relay = Relay(stage, streams)
            bare = partial(relay.run, settings.count(BARE_DELTAS) // streams)
            ours = None
            if not settings.floors_only:
                subject = Streams(stage, streams, interval=interval)
                ours = partial(subject.run, settings.count(DELTAS) // streams)
            alternate(settings.rounds, bare, ours, take)
        if shares:
            line.note = f"{statistics.median(shares):.0%} of the text came before its message"
        lines.append(line)
    return lines


def delta_latency(settings: Settings) -> list[Line]:
    """20 streams of 50 deltas a second, each sent at once."""
    p50 = Line("p50", "us", BATCHED, at_most(3))
    p99 = Line("p99", "us", BATCHED, at_most(5))
    each = int(RATE * settings.seconds(6))
    with Stage() as stage:
        relay = Relay(stage, 20)
        ours = None if settings.floors_only else Streams(stage, 20, interval=0)

        def take(bare: Any, seen: Any) -> None:
            p50.add(bare["p50"] * 1e6, seen and seen["p50"] * 1e6)
            p99.add(bare["p99"] * 1e6, seen and seen["p99"] * 1e6)

        alternate(
            settings.rounds,
            lambda: relay.run(each, RATE, stamped=True),
            None if ours is None else lambda: ours.run(each, RATE, stamped=True),
            take,
        )
    return [p50, p99]


def delta_cpu(settings: Settings) -> list[Line]:
    """100 streams of 50 deltas a second, at the client's default interval."""
    cpu = Line("CPU of the server a delta", "us", SINGLE, at_most(0.6))
    streams = 100
    each = int(RATE * settings.seconds(6))
    count = streams * each
    with Stage() as stage:
        relay = Relay(stage, streams, batched=False)
        ours = None if settings.floors_only else Streams(stage, streams)
        alternate(
            settings.rounds,
            lambda: relay.run(each, RATE),
            None if ours is None else lambda: ours.run(each, RATE),
            lambda bare, seen: cpu.add(
                bare["cpu"] / count * 1e6, seen and seen["cpu"] / count * 1e6
            ),
        )
    return [cpu]

"""Live events to browsers: beside Chainlit, beside what one writes by hand, and to a thousand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.bench.harness import Bound, Line, Settings, alternate, at_least, at_most
from tests.bench.processes import COMPILED, Proc, Stage, Worker
from tests.bench.sides_sse import Capsule, Chainlit, Side, Starlette

MIB = 1 << 20
CHAINLIT, STARLETTE = Chainlit.name, Starlette.name
# Tokens of an answer whose first one is waited for: all at once, or at a model's pace.
ANSWER = 20
PACED, PACE = 5, 0.02
FOLLOWERS = 1_000
IN_FLIGHT = 64


Seen = dict[str, Any]


class Comparison:
    """One figure of the sidecar's, beside the same of both others."""

    def __init__(
        self,
        what: str,
        unit: str,
        figure: Callable[[Seen], float],
        *,
        chainlit: Bound | None = None,
        starlette: Bound | None = None,
    ) -> None:
        self._figure = figure
        self.chainlit = Line(f"{what}, beside {CHAINLIT}", unit, CHAINLIT, chainlit)
        self.starlette = Line(f"{what}, beside {STARLETTE}", unit, STARLETTE, starlette)

    @property
    def lines(self) -> list[Line]:
        return [self.chainlit, self.starlette]

    def add(self, both: tuple[Seen, Seen], mine: Seen | None) -> None:
        """Takes a round: Chainlit's and Starlette's, and the sidecar's."""
        subject = None if mine is None else self._figure(mine)
        for line, theirs in zip(self.lines, both, strict=True):
            line.add(self._figure(theirs), subject)


class Sides:
    """All three."""

    def __init__(
        self, stage: Stage, settings: Settings, env: Mapping[str, str] | None = None
    ) -> None:
        self.chainlit = Chainlit(stage, env)
        self.starlette = Starlette(stage, env)
        self.ours = None if settings.floors_only else Capsule(stage, env)

    def open(self, browsers: int) -> None:
        """Has as many browsers on each."""
        for side in (self.chainlit, self.starlette, self.ours):
            if side is not None:
                side.browsers.ask("open", count=browsers)

    def alternate(
        self, rounds: int, run: Callable[[Side], Seen], take: Callable[[Any, Any], None]
    ) -> None:
        """Runs all of them in turn."""
        alternate(
            rounds,
            lambda: (run(self.chainlit), run(self.starlette)),
            None if self.ours is None else partial(run, self.ours),
            take,
        )


def rate(seen: Seen) -> float:
    return float(seen["rate"])


def first(seen: Seen) -> float:
    return float(seen["first"]) * 1e3


def cpu(seen: Seen) -> float:
    return float(seen["cpu"]) * 1e6


def sse(settings: Settings) -> list[Line]:
    """A chat in each of 1, 20 and 100 browsers, answered at once, as fast as it goes."""
    lines = []
    with Stage() as stage:
        sides = Sides(stage, settings)
        for browsers in (1, 20, 100):
            sides.open(browsers)
            what = f"{browsers} browsers" if browsers > 1 else "1 browser"
            tokens = Comparison(
                f"{what}: tokens", "1/s", rate, chainlit=at_least(10), starlette=at_least(1)
            )
            # Of one browser there is one a round, which says little: `sse-first` is held to it.
            earlier = at_most(1) if browsers > 1 else None
            compared = (
                tokens,
                Comparison(f"{what}: first token", "ms", first, chainlit=earlier),
                Comparison(f"{what}: CPU a token", "us", cpu),
            )
            all_seen: list[Seen] = []

            def run(side: Side, browsers: int = browsers) -> Seen:
                return side.run(settings.count(side.tokens) // browsers)

            def take(
                both: tuple[Seen, Seen],
                mine: Seen | None,
                compared: tuple[Comparison, ...] = compared,
                all_seen: list[Seen] = all_seen,
            ) -> None:
                for one in compared:
                    one.add(both, mine)
                if mine:
                    all_seen.append(mine)

            sides.alternate(settings.rounds, run, take)
            tokens.starlette.note = _told(all_seen)
            lines += [line for one in compared for line in one.lines]
    return lines


def sse_shared(settings: Settings) -> list[Line]:
    """One chat that 20 and 100 browsers look at."""
    lines = []
    with Stage() as stage:
        bare = Starlette(stage)
        ours = None if settings.floors_only else Capsule(stage)
        sides: list[Side] = [bare, *([ours] if ours else [])]
        for side in sides:
            side.browsers.ask("open", count=1)
        for browsers in (20, 100):
            for side in sides:
                side.browsers.ask("follow", count=browsers)
            what = f"one chat in {browsers} browsers"
            tokens = Line(f"{what}: tokens", "1/s", STARLETTE, at_least(1))
            spent = Line(f"{what}: CPU a token", "us", STARLETTE)
            all_seen: list[Seen] = []
            bare_each = settings.count(bare.tokens) // browsers
            # An app makes so many at once, whoever looks.
            each = settings.count(Capsule.tokens) // 2

            def take(
                theirs: Seen,
                mine: Seen | None,
                tokens: Line = tokens,
                spent: Line = spent,
                all_seen: list[Seen] = all_seen,
            ) -> None:
                tokens.add(rate(theirs), rate(mine) if mine else None)
                spent.add(cpu(theirs), cpu(mine) if mine else None)
                if mine:
                    all_seen.append(mine)

            alternate(
                settings.rounds,
                partial(bare.run, bare_each, shared=True),
                partial(ours.run, each, shared=True) if ours else None,
                take,
            )
            tokens.note = _told(all_seen)
            lines += [tokens, spent]
    return lines


def sse_first(settings: Settings) -> list[Line]:
    """One browser, one message after the other: from sending to the first token."""
    lines = []
    with Stage() as stage:
        sides = Sides(stage, settings)
        sides.open(1)
        for what, tokens, interval in (
            (f"first of {ANSWER} tokens at once", ANSWER, 0.0),
            (f"first of {1 / PACE:.0f} tokens a second", PACED, PACE),
        ):
            compared = Comparison(f"{what}, p50", "ms", first, chainlit=at_most(1))
            count = settings.count(50 if not interval else 30)

            def run(
                side: Side, count: int = count, tokens: int = tokens, interval: float = interval
            ) -> Seen:
                return {"first": side.first(count, tokens, interval)}

            sides.alternate(settings.rounds, run, compared.add)
            lines += compared.lines
    return lines


def sse_idle(settings: Settings) -> list[Line]:
    """Memory of a server that nobody asks anything, and of each browser that only listens."""
    alone = Comparison("idle memory (RSS)", "MiB", lambda one: one["alone"], chainlit=at_most(0.7))
    each = Comparison("memory a browser", "KiB", lambda one: one["each"])
    held = Line("memory of the sidecar a browser", "KiB", None, at_most(30))

    def memory(side: Side) -> Seen:
        idle = side.server.rss() / MIB
        # The first loads what is loaded on first use.
        side.browsers.ask("open", count=1)
        side.run(ANSWER)
        return {"alone": idle, "each": side.memory_of(FOLLOWERS) / 1024}

    # What is compiled at a first start stays in memory: nobody's first start is measured.
    with Stage() as stage:
        Sides(stage, settings, COMPILED)
    for _ in range(1 if settings.short else 3):
        with Stage() as stage:
            sides = Sides(stage, settings, COMPILED)
            both = (memory(sides.chainlit), memory(sides.starlette))
            mine = memory(sides.ours) if sides.ours else None
            for one in (alone, each):
                one.add(both, mine)
            if sides.ours and mine:
                held.add(None, mine["each"])
                process = sides.ours.app.rss() / MIB
                alone.chainlit.note = f"the app's own process has {process:.0f} MiB beside it"
    return [*alone.lines, *each.lines, *([] if settings.floors_only else [held])]


class FanOut:
    """A server, the readers of one session of it, and who replies in that session."""

    def __init__(self, server: Proc, readers: Worker, give: Callable[[], Any]) -> None:
        self._server = server
        self._readers = readers
        self._give = give

    def run(self, ahead: int) -> Seen:
        """Has replies given until all readers are `ahead` events further."""
        base = self._readers.ask("offset")
        old = self._readers.ask("until_offset", base=base, ahead=0)
        before = self._server.cpu()
        sent = self._give()
        seen = self._readers.ask("until_offset", base=base, ahead=ahead)
        total = FOLLOWERS * ahead
        return {
            "rate": total / (seen["end"] - sent["start"]),
            "cpu": (self._server.cpu() - before) / total,
            "events": total / (seen["pieces"] - old["pieces"]),
            "bytes": (seen["bytes"] - old["bytes"]) / total,
        }


def sse_fan_out(settings: Settings) -> list[Line]:
    """Replies to one session as fast as they go, until the last browser has the last one."""
    against = "a bare batched fan-out over HTTP to as many"
    line = Line("deliveries", "1/s", against, at_least(0.4))
    spent = Line("CPU of the server a delivery", "us", against)
    memory = Line("memory of the sidecar a follower", "KiB", None, at_most(30))
    count = settings.count(2_000)
    with Stage() as stage:
        server = stage.worker("floor_sse", str(stage.folder()))
        client = stage.worker("floor_client", server.ready["target"])
        readers = stage.worker("browsers", "offsets", server.ready["http"], "")
        readers.ask("open", count=1)
        readers.ask("follow", count=FOLLOWERS)
        bare = FanOut(
            server,
            readers,
            lambda: client.ask("replies", session="one", count=count, in_flight=IN_FLIGHT),
        )
        subject = None
        if not settings.floors_only:
            capsule = Capsule(stage, kind="offsets")
            capsule.browsers.ask("open", count=1)
            job = json.dumps({"job": "replies", "in_flight": IN_FLIGHT, "count": count})

            def give() -> Any:
                capsule.browsers.ask("send", text=job)
                return capsule.app.answer()

            ours = FanOut(capsule.server, capsule.browsers, give)
            # The first does the job once, so that what is loaded on first use is no follower's.
            ours.run(count + 1)
            head = capsule.browsers.ask("offset")
            before = capsule.server.rss()
            capsule.browsers.ask("follow", count=FOLLOWERS, after=head)
            memory.add(None, (capsule.server.rss() - before) / (FOLLOWERS - 1) / 1024)
            # The user's message and the replies; the turn's end comes behind them.
            subject = partial(ours.run, count + 1)

        def take(theirs: Seen, mine: Seen | None) -> None:
            line.add(rate(theirs), rate(mine) if mine else None)
            spent.add(cpu(theirs), cpu(mine) if mine else None)
            line.note = "; ".join(
                f"{whose}: {one['events']:.0f} events a piece, {one['bytes']:.0f} bytes an event"
                for whose, one in (("floor", theirs), ("sidecar", mine))
                if one
            )

        alternate(settings.rounds, partial(bare.run, count), subject, take)
    return [line, spent, *([] if settings.floors_only else [memory])]


def _told(seen: list[Seen]) -> str:
    """Returns what is to be known about the sidecar's rounds, beside their figures."""
    if not seen:
        return ""
    events = statistics.median(one["tokens"] / one["events"] for one in seen)
    late = statistics.median(one["late"] for one in seen)
    own = statistics.median(one["own_cpu"] / one["cpu"] for one in seen)
    return (
        f"{events:,.0f} tokens an event; {1 - late:.0%} of the text came before its message;"
        f" {own:.0%} of the CPU is the sidecar's, the rest its app's"
    )

"""Durable replies: many at once, by unary calls, one at a time, at a rate."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_least, at_most
from tests.bench.processes import Proc, Stage
from tests.bench.sides import Floor, Sidecar

ECHO = "a bare grpc.aio unary echo of the same size"
PING_PONG = "a bare bidirectional ping-pong plus one 4 KiB write and fdatasync"
RAW_APP = "bench-raw"


def with_cpu(server: Proc, result: dict[str, Any], before: float) -> dict[str, Any]:
    """Adds the microseconds of CPU that the server spent for each call."""
    result["cpu"] = (server.cpu() - before) / result["count"] * 1e6
    return result


def reply(settings: Settings) -> list[Line]:
    """Through the client with 64 and 256 in flight, and by unary calls with 64."""
    rates = {
        64: Line("64 in flight", "1/s", ECHO, at_least(3)),
        256: Line("256 in flight", "1/s", ECHO, at_least(3)),
    }
    unary = Line("unary, 64 in flight", "1/s", ECHO, at_least(0.6))
    spent = Line("CPU of the server a reply, 64 in flight", "us", ECHO)
    with Stage() as stage:
        floor = Floor(stage)
        count = settings.count(6_000)

        def echo(in_flight: int) -> dict[str, Any]:
            before = floor.server.cpu()
            result = floor.client.ask("echo", in_flight=in_flight, count=count)
            return with_cpu(floor.server, result, before)

        if settings.floors_only:
            for in_flight, line in rates.items():
                for _ in range(settings.rounds):
                    line.add(echo(in_flight)["rate"], None)
            return list(rates.values())

        sidecar = Sidecar(stage)
        [session] = sidecar.person.ask("open", count=1)
        # What is replied is fanned out to somebody.
        sidecar.followers().ask("follow", sessions=[session])
        raw = sidecar.raw_handler(RAW_APP)
        raw_people = sidecar.people(RAW_APP)
        [raw_session] = raw_people.ask("open", count=1)

        def replies(in_flight: int) -> dict[str, Any]:
            sidecar.app()
            before = sidecar.server.cpu()
            result = sidecar.do(session, "replies", in_flight=in_flight, count=3 * count)
            return with_cpu(sidecar.server, result, before)

        def unary_replies() -> dict[str, Any]:
            raw_people.ask("send", sessions=[raw_session], text="Go on.")
            result: dict[str, Any] = raw.ask("replies", in_flight=64, count=count)
            return result

        for in_flight, line in rates.items():

            def take(bare: Any, ours: Any, line: Line = line, in_flight: int = in_flight) -> None:
                line.add(bare["rate"], ours["rate"])
                if in_flight == 64:
                    spent.add(bare["cpu"], ours["cpu"])

            alternate(
                settings.rounds,
                lambda in_flight=in_flight: echo(in_flight),  # type: ignore[misc]
                lambda in_flight=in_flight: replies(in_flight),  # type: ignore[misc]
                take,
            )
        alternate(
            settings.rounds,
            lambda: echo(64),
            unary_replies,
            lambda bare, ours: unary.add(bare["rate"], ours["rate"]),
        )
    return [*rates.values(), unary, spent]


def reply_alone(settings: Settings) -> list[Line]:
    """One at a time."""
    grown = Line("p50, one at a time", "us", PING_PONG, at_most(1.5))
    sized = Line("against a log that has its size", "us", "the same, overwriting a file")
    with Stage() as stage:
        floor = Floor(stage)
        count = settings.count(1_000)
        subject = None
        if not settings.floors_only:
            sidecar = Sidecar(stage)
            [session] = sidecar.person.ask("open", count=1)
            sidecar.followers().ask("follow", sessions=[session])

            def subject() -> dict[str, Any]:
                return sidecar.do(session, "replies", in_flight=1, count=count)

        for how, line in (("append", grown), ("overwrite", sized)):

            def take(bare: Any, ours: Any, line: Line = line) -> None:
                line.add(bare["p50"] * 1e6, ours and ours["p50"] * 1e6)

            alternate(
                settings.rounds,
                lambda how=how: floor.client.ask(  # type: ignore[misc]
                    "ping_pong", how=how, count=count
                ),
                subject,
                take,
            )
    return [grown, sized]


def reply_rate(settings: Settings) -> list[Line]:
    """1,000 per second, open loop."""
    rate = 1_000
    cpu = Line("CPU of the server a reply", "us", f"{ECHO} at that rate", at_most(0.8))
    p50 = Line("p50", "us", f"{ECHO} at that rate", at_most(1))
    p99 = Line("p99", "us", f"{ECHO} at that rate")
    with Stage() as stage:
        floor = Floor(stage)
        seconds = settings.seconds(3)

        def bare() -> dict[str, Any]:
            before = floor.server.cpu()
            result = floor.client.ask("echo_at", rate=rate, seconds=seconds)
            return with_cpu(floor.server, result, before)

        subject = None
        if not settings.floors_only:
            sidecar = Sidecar(stage)
            [session] = sidecar.person.ask("open", count=1)
            sidecar.followers().ask("follow", sessions=[session])
            sidecar.app()

            def subject() -> dict[str, Any]:
                before = sidecar.server.cpu()
                result = sidecar.do(session, "replies_at", rate=rate, seconds=seconds)
                return with_cpu(sidecar.server, result, before)

        def take(bare: Any, ours: Any) -> None:
            cpu.add(bare["cpu"], ours and ours["cpu"])
            p50.add(bare["p50"] * 1e6, ours and ours["p50"] * 1e6)
            p99.add(bare["p99"] * 1e6, ours and ours["p99"] * 1e6)

        alternate(settings.rounds, bare, subject, take)
    return [cpu, p50, p99]

"""What is stored must not make anything slower."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_most
from tests.bench.processes import Stage
from tests.bench.sides import Sidecar

FEW, MANY = 100, 10_000
STORED = 1_000_000
IN_FLIGHT = 256
# Sessions that the stored events are spread over.
SESSIONS = 100


def open_session(settings: Settings) -> list[Line]:
    """The newest page and the first snapshot, of a short session and of a long one."""
    against = f"a session with {FEW} messages"
    p50 = Line(f"p50 with {MANY:,} messages", "us", against, at_most(1.2))
    cpu = Line("CPU of the sidecar", "us", against, at_most(1.2))
    if settings.floors_only:
        return []
    count = settings.count(500)
    with Stage() as stage:
        sidecar = Sidecar(stage)
        short, long = sidecar.person.ask("open", count=2)
        sidecar.do(short, "replies", in_flight=IN_FLIGHT, count=FEW)
        sidecar.do(long, "replies", in_flight=IN_FLIGHT, count=MANY)

        def opened(session: str) -> dict[str, Any]:
            before = sidecar.server.cpu()
            result: dict[str, Any] = sidecar.person.ask("open_cost", session=session, count=count)
            result["cpu"] = (sidecar.server.cpu() - before) / count * 1e6
            return result

        def take(few: dict[str, Any], many: dict[str, Any]) -> None:
            p50.add(few["p50"] * 1e6, many["p50"] * 1e6)
            cpu.add(few["cpu"], many["cpu"])

        alternate(settings.rounds, lambda: opened(short), lambda: opened(long), take)
    return [p50, cpu]


def appends(settings: Settings) -> list[Line]:
    """Durable replies into an empty database and into one that holds a million events."""
    stored = STORED // 10 if settings.short else STORED
    against = "an empty database"
    spent = Line(f"a reply with {stored:,} events stored", "us", against, at_most(1.2))
    cpu = Line("CPU of the sidecar", "us", against, at_most(1.2))
    if settings.floors_only:
        return []
    count = settings.count(10_000)
    with Stage() as stage:
        empty, full = Sidecar(stage), Sidecar(stage)
        sessions = {id(one): one.person.ask("open", count=1)[0] for one in (empty, full)}
        filled = full.person.ask("open", count=SESSIONS)
        for session in filled:
            full.do(session, "replies", in_flight=IN_FLIGHT, count=stored // SESSIONS)

        def replies(sidecar: Sidecar) -> dict[str, Any]:
            before = sidecar.server.cpu()
            session = sessions[id(sidecar)]
            result = sidecar.do(session, "replies", in_flight=64, count=count)
            result["cpu"] = (sidecar.server.cpu() - before) / count * 1e6
            return result

        def take(bare: dict[str, Any], ours: dict[str, Any]) -> None:
            spent.add(1e6 / bare["rate"], 1e6 / ours["rate"])
            cpu.add(bare["cpu"], ours["cpu"])

        alternate(settings.rounds, lambda: replies(empty), lambda: replies(full), take)
    return [spent, cpu]

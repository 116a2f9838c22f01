"""Whole turns: a message is sent, the handler answers a word, the follower sees it."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_least, at_most
from tests.bench.processes import Stage
from tests.bench.rows_reply import PING_PONG
from tests.bench.sides import Floor, Sidecar

SESSIONS = 256


def turns(settings: Settings) -> list[Line]:
    """One at a time, and in 256 sessions at once."""
    alone = Line("p50, one at a time", "us", PING_PONG, at_most(4))
    together = Line(
        f"{SESSIONS} sessions", "1/s", "durable replies, 64 in flight, of this run", at_least(0.3)
    )
    count = settings.count(500)
    with Stage() as stage:
        floor = Floor(stage)

        def bare() -> dict[str, Any]:
            result: dict[str, Any] = floor.client.ask("ping_pong", how="append", count=count)
            return result

        if settings.floors_only:
            alternate(settings.rounds, bare, None, lambda one, _: alone.add(one["p50"] * 1e6, None))
            return [alone]

        sidecar = Sidecar(stage)
        sidecar.app()
        sessions = sidecar.person.ask("open", count=SESSIONS)
        alternate(
            settings.rounds,
            bare,
            lambda: sidecar.person.ask("turns", sessions=sessions[:1], count=count),
            lambda one, ours: alone.add(one["p50"] * 1e6, ours["p50"] * 1e6),
        )
        [busy] = sidecar.person.ask("open", count=1)
        sidecar.followers().ask("follow", sessions=[busy])
        alternate(
            settings.rounds,
            lambda: sidecar.do(busy, "replies", in_flight=64, count=20 * count),
            lambda: sidecar.person.ask("turns", sessions=sessions, count=10 * count),
            lambda one, ours: together.add(one["rate"], ours["rate"]),
        )
    return [alone, together]

"""One session, followed by a thousand."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_least, at_most
from tests.bench.processes import Proc, Stage, Worker
from tests.bench.sides import Floor, Sidecar

FOLLOWERS = 1_000
IN_FLIGHT = 64


def memory_of(server: Proc, followers: Worker, session: str) -> float:
    """Adds followers up to `FOLLOWERS`; returns the KiB of the server's memory that each took.

    They follow from the head: an idle follower is meant, not the replay of a log.
    """
    head = round(followers.ask("offset"))
    before = server.rss()
    followers.ask("follow", sessions=[session], each=FOLLOWERS - 1, after=head)
    return (server.rss() - before) / (FOLLOWERS - 1) / 1024


def fan_out(settings: Settings) -> list[Line]:
    """Replies as fast as they go, until the last follower has the last one."""
    line = Line("deliveries", "1/s", "a bare batched fan-out to as many", at_least(0.4))
    memory = Line("memory of the sidecar a follower", "KiB", None, at_most(30))
    count = settings.count(2_000)
    with Stage() as stage:
        floor = Floor(stage)
        bare_followers = floor.followers()
        floor.client.ask("replies", session="one", count=count, in_flight=IN_FLIGHT)
        bare_followers.ask("follow", sessions=["one"])
        bare_memory = memory_of(floor.server, bare_followers, "one")

        def bare() -> float:
            base = bare_followers.ask("offset")
            bare_followers.send("until_offset", base=base, ahead=count)
            sent = floor.client.ask("replies", session="one", count=count, in_flight=IN_FLIGHT)
            seen = bare_followers.answer()
            return float(FOLLOWERS * count / (seen["end"] - sent["start"]))

        subject = None
        if not settings.floors_only:
            sidecar = Sidecar(stage)
            [session] = sidecar.person.ask("open", count=1)
            # The first does the job once, so that what is loaded on first use is no follower's.
            sidecar.do(session, "replies", in_flight=IN_FLIGHT, count=count)
            followers = sidecar.followers()
            followers.ask("follow", sessions=[session])
            memory.add(bare_memory, memory_of(sidecar.server, followers, session))

            def subject() -> float:
                base = followers.ask("offset")
                # The user's message and the replies; the turn's end comes behind them.
                followers.send("until_offset", base=base, ahead=count + 1)
                sent = sidecar.do(session, "replies", in_flight=IN_FLIGHT, count=count)
                seen: dict[str, Any] = followers.answer()
                return float(FOLLOWERS * count / (seen["end"] - sent["start"]))

        alternate(settings.rounds, bare, subject, line.add)
    return [line] if settings.floors_only else [line, memory]

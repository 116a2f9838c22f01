"""What it costs to wait for people."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

from tests.bench.harness import Line, Settings, alternate, at_most
from tests.bench.processes import Stage, Worker
from tests.bench.sides import APP, Sidecar

PROMPTS = 10_000
# What the handler runs at once: a hundredth of what waits for people.
PLACES = 100
WARM = 500
# What waiting is to hold none of.
HELD = ("threads", "followers", "event_streams", "open_streams")
# A process's memory is steady when it has not grown for so long.
STEADY = 2.0


def prompts(settings: Settings) -> list[Line]:
    """Open prompts in as many sessions, and as many sessions whose turns have ended."""
    if settings.floors_only:
        return []
    count = settings.count(PROMPTS)
    against = f"as many sessions whose turn has ended ({count:,})"
    session = Line("memory of a session whose turn waits", "KiB", against)
    memory = Line("memory of a waiting prompt", "KiB", None, at_most(5))
    answer = Line("an answer, until the handler is told, p50", "us", "no other prompt open")
    with Stage() as stage:
        idle, waiting = Sidecar(stage), Sidecar(stage)
        ended, asker = idle.asker(APP, PLACES), waiting.asker(APP, PLACES)
        # What is loaded, started or grown on first use is no session's.
        ended.ask("fill", count=WARM, text="end")
        asker.ask("fill", count=WARM, text="ask")
        bare = grown(idle, ended, "end", count)
        held_before = figures(waiting)
        ours = grown(waiting, asker, "ask", count)
        held = figures(waiting)
        session.add(bare, ours)
        memory.add(None, ours - bare)
        given = asker.ask("hold", count=PLACES + 20, seconds=settings.seconds(3))
        more = {name: held[name] - held_before[name] for name in HELD}
        memory.note = (
            f"{held['open_prompts']:,.0f} open prompts hold {PLACES - given} of the handler's"
            f" {PLACES} places and, of the sidecar, "
            + ", ".join(f"{number:g} {name.replace('_', ' ')}" for name, number in more.items())
        )
        each = settings.count(300)

        def answered(side: Worker) -> float:
            return float(side.ask("answers", count=each)["p50"] * 1e6)

        alternate(settings.rounds, lambda: answered(ended), lambda: answered(asker), answer.add)
    return [memory, session, answer]


def grown(sidecar: Sidecar, worker: Worker, text: str, count: int) -> float:
    """Plays a turn in so many sessions; returns the KiB of memory that each took of the sidecar."""
    before = steady(sidecar)
    worker.ask("fill", count=count, text=text)
    return (steady(sidecar) - before) / count / 1024


def steady(sidecar: Sidecar) -> int:
    """Returns the sidecar's memory once it has not grown for a while."""
    size, since = sidecar.server.rss(), time.monotonic()
    while time.monotonic() - since < STEADY:
        time.sleep(0.1)
        now = sidecar.server.rss()
        if now > size + 65_536:
            size, since = now, time.monotonic()
    return sidecar.server.rss()


def figures(sidecar: Sidecar) -> dict[str, float]:
    """Returns the sidecar's threads, and what it says of itself."""
    status = Path(f"/proc/{sidecar.server.pid}/status").read_text("ascii")
    threads = re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)
    assert threads is not None
    with urllib.request.urlopen(f"http://{sidecar.http}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = dict(re.findall(r"^capsule_(\w+)(?:\{[^}]*\})? ([\d.e+]+)$", text, re.MULTILINE))
    return {"threads": float(threads[1])} | {name: float(value) for name, value in found.items()}

"""From the submission of a task to its handler, beside a whole turn."""

from __future__ import annotations

from tests.bench.harness import Line, Settings, alternate, at_most
from tests.bench.processes import Stage
from tests.bench.sides import Sidecar

WHOLE_TURN = "a whole turn, one at a time: message sent, handler called, reply seen"


def tasks(settings: Settings) -> list[Line]:
    """One at a time; a start is there when `submit` has returned and the handler is entered."""
    line = Line("p50 from submit to start", "us", WHOLE_TURN, at_most(2))
    if settings.floors_only:
        return []
    count = settings.count(500)
    with Stage() as stage:
        sidecar = Sidecar(stage)
        sidecar.app()
        talking, working = sidecar.person.ask("open", count=2)
        alternate(
            settings.rounds,
            lambda: sidecar.person.ask("turns", sessions=[talking], count=count),
            lambda: sidecar.do(working, "tasks", count=count),
            lambda turn, task: line.add(turn["p50"] * 1e6, task["p50"] * 1e6),
        )
    return [line]

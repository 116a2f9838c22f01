"""Data requests: what a handler behind the sidecar costs beside an endpoint without one."""

from __future__ import annotations

from typing import Any

from tests.bench.harness import Line, Settings, alternate
from tests.bench.processes import Stage
from tests.bench.sides import APP, Sidecar
from tests.bench.sides_sse import OPEN_LIMITS

FLOOR = "a bare Starlette endpoint, same answer"
IN_FLIGHT = 64


def data(settings: Settings) -> list[Line]:
    """One at a time, and 64 at once. Reported: an endpoint without a sidecar is another thing."""
    alone = Line("p50, one at a time", "us", FLOOR)
    together = Line(f"{IN_FLIGHT} in flight", "1/s", FLOOR)
    count = settings.count(2_000)
    with Stage() as stage:
        floor = stage.worker("floor_data").ready["target"]
        askers = stage.worker("askers")
        sidecar = None if settings.floors_only else Sidecar(stage, env=OPEN_LIMITS)
        if sidecar is not None:
            sidecar.app()

        def ask(ours: bool, in_flight: int) -> Any:
            if not ours:
                where = {"target": floor, "path": "/data/rows?count=10"}
            else:
                assert sidecar is not None
                where = {"target": sidecar.http, "path": f"/apps/{APP}/data/rows?count=10"}
            return askers.ask("ask", in_flight=in_flight, count=count, **where)

        for line, in_flight in ((alone, 1), (together, IN_FLIGHT)):
            figure = "p50" if in_flight == 1 else "rate"
            unit = 1e6 if in_flight == 1 else 1.0

            def take(theirs: Any, ours: Any, line: Line = line, key: str = figure,
                     unit: float = unit) -> None:  # fmt: skip
                line.add(theirs[key] * unit, None if ours is None else ours[key] * unit)

            def bare(in_flight: int = in_flight) -> Any:
                return ask(False, in_flight)

            def mine(in_flight: int = in_flight) -> Any:
                return ask(True, in_flight)

            alternate(settings.rounds, bare, mine if sidecar is not None else None, take)
    return [alone, together]

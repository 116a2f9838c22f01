"""Rounds, ratios and the table: what every row of the measurements shares."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("grpcio", "protobuf", "uvloop", "sqlalchemy")


@dataclass(frozen=True)
class Settings:
    """How much a run measures."""

    short: bool = False
    # Only what the sidecar is compared with.
    floors_only: bool = False

    @property
    def rounds(self) -> int:
        """How often floor and subject take turns."""
        return 3 if self.short else 7

    def count(self, full: int) -> int:
        """Returns how many of something a round does."""
        return max(1, full // 5) if self.short else full

    def seconds(self, full: float) -> float:
        """Returns how long a timed round lasts."""
        return full / 3 if self.short else full


@dataclass(frozen=True)
class Bound:
    """What a ratio, or an absolute figure without a floor, must reach."""

    value: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"

    def met(self, reached: float) -> bool:
        return reached >= self.value if self.at_least else reached <= self.value


def at_least(value: float) -> Bound:
    return Bound(value, at_least=True)


def at_most(value: float) -> Bound:
    return Bound(value, at_least=False)


@dataclass
class Line:
    """One comparison: a figure of the sidecar's beside its floor's, round by round."""

    what: str
    unit: str
    # None: the figure stands by itself and `must` is about it.
    against: str | None = None
    must: Bound | None = None
    floor: list[float] = field(default_factory=list)
    subject: list[float] = field(default_factory=list)
    note: str = ""

    def add(self, floor: float | None, subject: float | None) -> None:
        """Takes one round's figures."""
        if floor is not None:
            self.floor.append(floor)
        if subject is not None:
            self.subject.append(subject)

    @property
    def ratios(self) -> list[float]:
        """Subject to floor, one for each round."""
        return [ours / bare for ours, bare in zip(self.subject, self.floor, strict=False) if bare]

    @property
    def reached(self) -> float | None:
        """What `must` is held against. None: not measured."""
        if self.against is None:
            return statistics.median(self.subject) if self.subject else None
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether it reaches what it must. None: it need not, or was not measured."""
        reached = self.reached
        return None if self.must is None or reached is None else self.must.met(reached)

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "against": self.against,
            "must": str(self.must) if self.must else None,
            "floor": self.floor,
            "subject": self.subject,
            "reached": self.reached,
            "met": self.met,
            "note": self.note,
        }


Side = Callable[[], Any]


def alternate(
    rounds: int, floor: Side, subject: Side | None, take: Callable[[Any, Any], None]
) -> None:
    """Runs floor and subject in turn, and gives `take` what each returned.

    The first round only warms up. Who goes first changes, so that neither always follows a rest.
    Without a subject, `take` gets None for it.
    """
    for number in range(rounds + 1):
        if subject is None:
            pair = (floor(), None)
        elif number % 2:
            pair = (floor(), subject())
        else:
            theirs = subject()
            pair = (floor(), theirs)
        if number:
            take(*pair)


def spread(values: Sequence[float]) -> str:
    """Returns median and range, as `1,234 (1,100-1,300)`."""
    if not values:
        return "-"
    low, middle, high = (
        number(one) for one in (min(values), statistics.median(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def number(value: float) -> str:
    """Returns a figure with about three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def versions() -> dict[str, str]:
    """Returns what the figures depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()}",
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
    }


def show(row: str, lines: Sequence[Line]) -> None:
    """Prints one row's table."""
    if not lines:
        return
    cells = [["", "unit", "sidecar", "floor", "ratio", "must", ""]]
    for line in lines:
        ratios = line.ratios if line.against else []
        verdict = {None: "", True: "met", False: "MISSED"}[line.met]
        cells.append(
            [
                line.what,
                line.unit,
                spread(line.subject),
                spread(line.floor),
                spread(ratios),
                str(line.must or ""),
                verdict,
            ]
        )
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(cells[0]))]
    print(f"\n{row}")
    for cell in cells:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)))
    for line in lines:
        for text in (line.against, line.note):
            if text and text not in line.what:
                print(f"    {line.what}: {text}")


def save(path: Path, rows: dict[str, list[Line]], settings: Settings) -> None:
    """Writes everything that was measured as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "versions": versions(),
        "short": settings.short,
        "rows": {name: [line.as_json() for line in lines] for name, lines in rows.items()},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()

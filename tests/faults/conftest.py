"""What the fault tests say at the end: their figures, whether they passed or not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.troubles import FileLimit, FullDisk, Lock, Trouble, small_disk

# Seconds for a test that names no other: it starts several processes, and a machine may be slow.
_DEADLINE = 180.0
_FIGURES = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives these tests more time than others have."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("deadline"):
            item.add_marker(pytest.mark.deadline(_DEADLINE))


Report = Callable[[str], None]


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Returns a function that puts a line of figures into the summary of the run."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    name = request.node.name

    def add(figures: str) -> None:
        lines.append(f"{name}\n    {figures}")

    return add


@pytest.fixture
def seed(report: Report) -> str:
    """Returns what this run's chances come from, and puts it into the summary.

    FAULTS_SEED=... makes the same ones again.
    """
    chosen = os.environ.get("FAULTS_SEED", str(random.randrange(10**6)))
    report(f"FAULTS_SEED={chosen}")
    return chosen


@pytest.fixture(params=["full disk", "file limit", "lock"])
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trouble]:
    """Each way in which storage goes away; the home is `tmp_path / "home"`."""
    home = tmp_path / "home"
    match request.param:
        case "full disk":
            with small_disk(home):
                yield FullDisk(home)
        case "file limit":
            yield FileLimit()
        case _:
            yield Lock(home)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the figures; they are what a run of these tests is for."""
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)

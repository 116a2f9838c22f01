"""What the fault tests say at the end: their figures, whether they passed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURES = pytest.StashKey[list[str]]()

Report = Callable[[str], None]


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Returns a function that puts a line of figures into the summary of the run."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    name = request.node.name

    def add(figures: str) -> None:
        lines.append(f"{name}\n    {figures}")

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the figures; they are what a run of these tests is for."""
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)

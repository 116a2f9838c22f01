"""The one browser of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import chromium
from tests.browser.stage import Place

# Seconds for a test that names no other: where the machine is slow, a page takes for seconds, too.
_DEADLINE = 120.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives these tests more time than others have."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("deadline"):
            item.add_marker(pytest.mark.deadline(_DEADLINE))


@pytest.fixture(scope="session")
def browser_address() -> Iterator[str]:
    """Where the browser is."""
    with chromium() as address:
        yield address


@pytest.fixture
def place(browser_address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """What a test opens its stage with."""
    return Place(browser_address, tmp_path, request.node.name)

"""The one browser of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import chromium
from tests.browser.stage import Place


@pytest.fixture(scope="session")
def browser_address() -> Iterator[str]:
    """Where the browser is."""
    with chromium() as address:
        yield address


@pytest.fixture
def place(browser_address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """What a test opens its stage with."""
    return Place(browser_address, tmp_path, request.node.name)

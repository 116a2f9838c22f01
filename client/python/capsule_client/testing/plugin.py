"""The pytest plugin, found wherever capsule-client is installed: the fixture `capsule_kit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from capsule_client.app import App
    from capsule_client.testing._kit import Kit
    from capsule_client.testing._sidecar import Sidecar


class RunKit(Protocol):
    """What the fixture `capsule_kit` gives: `testing.run` with a sidecar that is on its way."""

    def __call__(
        self, app: App, *, timeout: float = 10.0, config: str | Path = ""
    ) -> AbstractAsyncContextManager[Kit]:
        """Runs the app until left; as `testing.run`."""


class Stock:
    """Sidecars on their way: each test has a fresh one, started while the one before it ran."""

    def __init__(self) -> None:
        self._next: Sidecar | None = None

    def take(self) -> Sidecar:
        """Returns a sidecar that nobody has used; whoever takes it ends it."""
        from capsule_client.testing._sidecar import Sidecar

        sidecar = self._next or Sidecar()
        self._next = None
        self._next = Sidecar()
        return sidecar

    def clear(self) -> None:
        """Ends the one that nobody took."""
        if self._next is not None:
            self._next.end()


@pytest.fixture(scope="session")
def capsule_sidecars() -> Iterator[Stock]:
    """Sidecars on their way, for the whole run of the tests."""
    stock = Stock()
    try:
        yield stock
    finally:
        stock.clear()


@pytest.fixture
def capsule_kit(capsule_sidecars: Stock) -> Iterator[RunKit]:
    """Gives `testing.run` with a sidecar that is on its way: to be entered by `async with`."""
    from capsule_client.testing import run

    taken: list[Sidecar] = []

    def run_kit(
        app: App, *, timeout: float = 10.0, config: str | Path = ""
    ) -> AbstractAsyncContextManager[Kit]:
        if config:
            return run(app, timeout=timeout, config=config)
        sidecar = capsule_sidecars.take()
        taken.append(sidecar)
        return run(app, timeout=timeout, sidecar=sidecar)

    try:
        yield run_kit
    finally:
        for sidecar in taken:
            sidecar.end()

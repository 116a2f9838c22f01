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
    from capsule_client.testing._processes import Nursery
    from capsule_client.testing._sidecar import Sidecar


class RunKit(Protocol):
    """What the fixture `capsule_kit` gives: `testing.run` with sidecars that start sooner."""

    def __call__(
        self, app: App, *, timeout: float = 10.0, config: str | Path = ""
    ) -> AbstractAsyncContextManager[Kit]:
        """Runs the app until left; as `testing.run`."""


class Nurseries:
    """What forks the sidecars of a run of pytest; begun with the first of them."""

    def __init__(self) -> None:
        self._nursery: Nursery | None = None

    def sidecar(self, config: str | Path) -> Sidecar:
        """Returns a sidecar that nobody has used; whoever takes it ends it."""
        from capsule_client.testing._processes import Nursery
        from capsule_client.testing._sidecar import Sidecar

        if self._nursery is None and Nursery.possible():
            self._nursery = Nursery()
        alive = self._nursery is not None and self._nursery.alive
        return Sidecar(config, self._nursery if alive else None)

    def close(self) -> None:
        """Ends what forks them."""
        if self._nursery is not None:
            self._nursery.close()


@pytest.fixture(scope="session")
def capsule_nurseries() -> Iterator[Nurseries]:
    """Gives what starts sidecars, for the whole run: what they load is loaded once."""
    nurseries = Nurseries()
    try:
        yield nurseries
    finally:
        nurseries.close()


@pytest.fixture
def capsule_kit(capsule_nurseries: Nurseries) -> Iterator[RunKit]:
    """Gives `testing.run`, with sidecars that start sooner: to be entered by `async with`.

    Each time it is called it runs a fresh one, on a home of its own.
    """
    from capsule_client.testing import run

    taken: list[Sidecar] = []

    def run_kit(
        app: App, *, timeout: float = 10.0, config: str | Path = ""
    ) -> AbstractAsyncContextManager[Kit]:
        sidecar = capsule_nurseries.sidecar(config)
        taken.append(sidecar)
        return run(app, timeout=timeout, sidecar=sidecar)

    try:
        yield run_kit
    finally:
        for sidecar in taken:
            sidecar.end()

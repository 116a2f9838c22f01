"""The sidecars of the walk, from the test kit: processes that serve every test of a worker.

Each test has an app of its own, so none sees anything of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from capsule_client.testing.plugin import Nurseries
from tests.integration.walk.stage import Serving

# The usual times but for these; guests all come from one address.
CONFIG = """
[timing]
sweep_interval = 0.1
stop_grace = 2.0

[limits]
guests_per_minute = 100000
"""


def serve(nurseries: Nurseries) -> Iterator[Serving]:
    """Runs a sidecar until the generator is closed."""
    process = nurseries.sidecar(CONFIG)
    try:
        # One that is slow to start is worth waiting for: every test of the worker needs it.
        told = asyncio.run(process.ready(120))
        home = process._folder / "home"
        yield Serving(told.address, home, told.token, http=told.http, process=process)
    finally:
        process.end()


@pytest.fixture(scope="session")
def sidecar(capsule_nurseries: Nurseries) -> Iterator[Serving]:
    """A running sidecar."""
    yield from serve(capsule_nurseries)


@pytest.fixture(scope="session")
def timed(capsule_nurseries: Nurseries) -> Iterator[Serving]:
    """Another one, whose clock is put forward by tests."""
    yield from serve(capsule_nurseries)

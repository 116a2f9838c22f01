"""How an `async def` test runs: on a loop of its own, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long one example takes decides nothing: the machine may stand still for a while.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

DEADLINE = 120.0  # seconds, for a test that names no other
SETTLE = 5.0  # seconds, for tasks that are about to end when the test is over


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test under `asyncio.Runner`; leaves every other test to pytest.

    `@pytest.mark.deadline(seconds)` changes how long it may take. Fixtures stay synchronous:
    what must be closed on the loop is opened with `async with` in the test itself.
    """
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    marker = pyfuncitem.get_closest_marker("deadline")
    deadline = float(marker.args[0]) if marker else DEADLINE
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    with asyncio.Runner() as runner:
        runner.run(_within(deadline, test, arguments))
    return True


async def _within(deadline: float, test: Any, arguments: dict[str, Any]) -> None:
    limit = asyncio.timeout(deadline)
    try:
        async with limit:
            await test(**arguments)
    except TimeoutError:
        if not limit.expired():
            raise  # the test's own
        pytest.fail(f"the test was not over after {deadline:g} s", pytrace=True)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # what was closed just now may need a turn of the loop to end
        _, left = await asyncio.wait(left, timeout=SETTLE)
    assert not left, f"the test left tasks behind: {left}"

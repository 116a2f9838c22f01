"""What is asked of a collection of documents: the same on every side, in the same order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench import worker

COLLECTION = "notes"
# Different values of the two indexed paths, and how much of the second a range has: with 100,000
# documents either question finds 20 of them.
TEAMS, DUE, WIDTH = 5_000, 100_000, 20
KINDS = ("equal", "range")


def question(kind: str, value: int) -> dict[str, Any]:
    """Returns a filter."""
    if kind == "equal":
        return {"team": f"team {value}"}
    return {"due": {"$gte": value, "$lt": value + WIDTH}}


async def asked(
    ask: Callable[[int], Awaitable[list[dict[str, Any]]]], kind: str, count: int
) -> dict[str, float]:
    """Asks `count` times, one after the other; `found` is of the documents in all."""
    chosen = random.Random(worker.SEED)
    most = TEAMS if kind == "equal" else DUE - WIDTH
    found = 0

    async def one() -> None:
        nonlocal found
        found += len(await ask(chosen.randrange(most)))

    return {**await worker.closed_loop(one, in_flight=1, count=count), "found": found}

"""A process of an app that finds documents by the client's collection, outside of any turn.

The sidecar's address and token come from the environment, as for any app.
"""

from __future__ import annotations

from typing import Any

import capsule_client as capsule
from tests.bench import worker
from tests.bench.questions import COLLECTION, asked, question
from tests.bench.sides import APP

app = capsule.App(APP)
notes = app.collection(COLLECTION, scope="app", indexes=["team", "due"])


@app.message()
async def handle(session: capsule.Session, message: capsule.Message) -> None:
    """Answers nobody: an app has a handler."""


async def find(kind: str, count: int) -> dict[str, float]:
    """Asks `count` times."""

    async def ask(value: int) -> list[dict[str, Any]]:
        return await notes.find(question(kind, value))

    return await asked(ask, kind, count)


async def main() -> None:
    async with app.attached():
        await worker.serve({"find": find})


if __name__ == "__main__":
    worker.run(main)

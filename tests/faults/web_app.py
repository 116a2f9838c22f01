"""A handler process under test that answers data and endpoint requests.

Run as `python -m tests.faults.web_app`. `hold` answers when there is a file FAULTS_GATES/open.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import capsule_client as capsule

_GATE = Path(os.environ["FAULTS_GATES"]) / "open"

app = capsule.App("support", concurrency=int(os.environ["FAULTS_PLACES"]), drain_timeout=5.0)


@app.data("echo")
async def echo(ctx: capsule.RequestContext, n: int, pause: float = 0.0) -> int:
    """Answers with what it was given."""
    await asyncio.sleep(pause)
    return n


@app.data("hold")
async def hold(ctx: capsule.RequestContext) -> int:
    """Answers when it is let."""
    while not _GATE.exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.01)
    return os.getpid()


@app.endpoint("POST", "/size")
async def size(ctx: capsule.RequestContext) -> int:
    """Answers with the size of the body."""
    return len(ctx.request.body)


if __name__ == "__main__":
    app.run()

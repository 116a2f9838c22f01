"""A handler process with tasks and a schedule, each step noted before and after it.

Run as `python -m tests.faults.task_app`. A message is `MARK KIND FAILURES PAUSE DELAY WHERE` and
submits a task. Notes go to the file FAULTS_NOTES, a line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import Any

import capsule_client as capsule

_NOTES = os.open(os.environ["FAULTS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = capsule.App("support", drain_timeout=5.0, concurrency=64)
app.collection("effects", scope="app")


class Asked(Exception):
    """The error that a task's arguments ask for."""


def _note(what: str, **fields: Any) -> None:
    os.write(_NOTES, json.dumps({"what": what, **fields}).encode() + b"\n")


async def _effect(session: capsule.Session, place: str, mark: str) -> None:
    """Leaves a mark that is counted, in one update."""
    change = {"$inc": {"n": 1}, "$push": {"marks": mark}}
    await session.db.effects.update_one({"id": place}, change, upsert=True)


async def _work(
    session: capsule.Session, mark: str, failures: int, pause: float
) -> dict[str, object]:
    task = capsule.current_task()
    assert task is not None
    this = {"id": task.id, "mark": mark, "attempt": task.attempt}
    _note("begun", **this)
    await _effect(session, f"of {mark}", f"{mark}/{task.attempt}")
    _note("effect", **this)
    await task.progress(0.5, "half")
    await asyncio.sleep(pause)
    if task.failures < failures:
        _note("raised", **this)
        raise Asked(mark)
    result = {"mark": mark, "attempt": task.attempt, "square": (10**9 + len(mark)) ** 2}
    _note("returned", **this, result=result)
    return result


@app.task(retries=9)
async def again(
    session: capsule.Session, mark: str, failures: int, pause: float
) -> dict[str, object]:
    """Is delivered again, and tried again."""
    return await _work(session, mark, failures, pause)


@app.task(redeliver=False)
async def once(
    session: capsule.Session, mark: str, failures: int, pause: float
) -> dict[str, object]:
    """Is begun once."""
    return await _work(session, mark, failures, pause)


@app.schedule("* * * * *")
async def minutely(session: capsule.Session) -> None:
    """Leaves a mark of its own."""
    mark = str(uuid.uuid4())
    _note("tick", mark=mark, attempt=session.attempt)
    await _effect(session, "ticks", mark)
    _note("tick effect", mark=mark)
    await asyncio.sleep(0.05)


@app.message()
async def submit(session: capsule.Session, message: capsule.Message) -> None:
    """Submits what the message says."""
    mark, kind, failures, pause, delay, where = message.text.split()
    given: dict[str, Any] = {"mark": mark, "failures": int(failures), "pause": float(pause)}
    task = again if kind == "again" else once
    of = session if where == "session" else None
    if float(delay):
        handle = await task.schedule(float(delay), session=of, **given)
    else:
        handle = await task.submit(of, **given)
    _note("submitted", mark=mark, id=handle.id)


if __name__ == "__main__":
    app.run()

"""The handler app under measurement. A user message that is JSON is a job; any other gets a word.

It says that it is ready once attached, and prints the result of every job as an answer line.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import capsule_client as capsule
from tests.bench import worker
from tests.bench.texts import MESSAGE_DELTAS, REPLY, data_answer, stamp, token

_TASK_TIMEOUT = 60.0

app = capsule.App(
    "bench",
    concurrency=256,
    stream_interval=float(os.environ.get("BENCH_STREAM_INTERVAL", "0.025")),
)


@app.boot()
async def attached() -> None:
    worker.say(result={})


async def replies(session: capsule.Session, in_flight: int, count: int) -> dict[str, float]:
    """Durable replies, `in_flight` at a time."""
    start = time.perf_counter()
    done = await worker.closed_loop(lambda: session.reply(REPLY), in_flight=in_flight, count=count)
    return {"start": start, **done}


async def replies_at(session: capsule.Session, rate: float, seconds: float) -> dict[str, float]:
    """Durable replies at a rate."""

    async def one() -> None:
        await session.reply(REPLY)

    return await worker.open_loop(one, rate=rate, seconds=seconds)


async def deltas(
    session: capsule.Session, count: int, interval: float, begin: float, stamped: bool
) -> dict[str, float]:
    """`count` deltas, as fast as they go or every `interval` s, as messages that are not too long.

    `begin` is the time of the first, on the clock that all processes share; 0 is now.
    """
    begin = begin or time.perf_counter()
    await asyncio.sleep(max(0.0, begin - time.perf_counter()))
    start = time.perf_counter()
    for first in range(0, count, MESSAGE_DELTAS):
        async with session.stream_reply() as out:
            for place in range(first, min(count, first + MESSAGE_DELTAS)):
                # Without an interval the loop turns once a delta, as it does for a model's tokens.
                due = begin + place * interval if interval else 0.0
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await out.write(stamp() if stamped else token(place))
    return {"start": start, "seconds": time.perf_counter() - start}


_entered: dict[int, asyncio.Future[float]] = {}


@app.task()
async def begin(session: capsule.Session, number: int) -> None:
    """Says when it began, to who submitted it in this process."""
    _entered[number].set_result(time.perf_counter())


async def tasks(session: capsule.Session, count: int) -> dict[str, float]:
    """Tasks one after the other: a time is from the submission to where it returned and one runs.

    The next is submitted when the one before has ended.
    """
    taken = worker.Latencies()
    for number in range(count):
        entered = _entered[number] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        handle = await begin.submit(number=number)
        returned = time.perf_counter()
        async with asyncio.timeout(_TASK_TIMEOUT):
            taken.add(max(returned, await entered) - start)
            await handle.result()
        del _entered[number]
    return taken.summary()


JOBS: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {
    "replies": replies,
    "replies_at": replies_at,
    "deltas": deltas,
    "tasks": tasks,
}


@app.message()
async def handle(session: capsule.Session, message: capsule.Message) -> None:
    if not message.text.startswith("{"):
        await session.reply("Yes.")
        return
    job: dict[str, Any] = json.loads(message.text)
    try:
        result = await JOBS[job.pop("job")](session, **job)
    except Exception as error:
        worker.say(error=f"{type(error).__name__}: {error}")
        raise
    worker.say(result=result)


@app.data("rows")
async def rows(ctx: capsule.RequestContext, count: int = 10) -> list[dict[str, object]]:
    return data_answer(count)


if __name__ == "__main__":
    app.run()

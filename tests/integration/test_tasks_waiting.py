"""Waiting for a task's end: who waits is woken by it, and costs the database nothing meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import event

from capsule_protocol.v1 import handler_service_pb2, task_service_pb2
from capsule_sidecar.runtime import ends
from tests.support.eventually import eventually
from tests.support.postgres import postgres_server
from tests.support.sidecar import (
    BareHandler,
    Person,
    Running,
    refusal_of,
    running_sidecar,
)
from tests.support.tasks import WITH_TASKS, run, submit, task

FAILED = handler_service_pb2.OUTCOME_STATUS_FAILED
COMPLETED = task_service_pb2.TASK_STATUS_COMPLETED
WAITERS = 200


class Heard:
    """How often a task was read, whole or for its status alone."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "jobs.args" in statement:
            self.counts["whole"] += 1
        elif statement.startswith("SELECT invocations.state"):
            self.counts["status"] += 1


@contextmanager
def hearing(running: Running) -> Iterator[Counter[str]]:
    """Counts what is read of tasks."""
    assert running.sidecar is not None
    engine, heard = running.sidecar.journal.database.engine, Heard()
    event.listen(engine, "before_cursor_execute", heard)
    try:
        yield heard.counts
    finally:
        event.remove(engine, "before_cursor_execute", heard)


@asynccontextmanager
async def waiting(
    handler: BareHandler, task_id: str, counts: Counter[str], waiters: int
) -> AsyncIterator[list[asyncio.Task[task_service_pb2.Task]]]:
    """Lets so many wait for a task; each has looked once when it is entered."""
    before = counts["status"]
    calls = [asyncio.create_task(task(handler, task_id, wait=30)) for _ in range(waiters)]
    try:
        await eventually(lambda: counts["status"] >= before + waiters, timeout=20)
        yield calls
    finally:
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_two_hundred_who_wait_for_one_task_are_woken_by_its_end_and_read_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "LOOK_AGAIN", 3_600.0)  # nobody looks by the clock
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        await handler.attach(declarations=WITH_TASKS)
        work = await run(handler, (await submit(handler)).task_id)
        with hearing(running) as counts:
            async with waiting(handler, work.invocation_id, counts, WAITERS) as calls:
                assert counts == {"status": WAITERS}
                # What others do meanwhile wakes nobody.
                other = await run(handler, (await submit(handler, name="other")).task_id)
                await handler.finish(other)
                assert (await task(handler, other.invocation_id, wait=20)).status == COMPLETED
                before = counts.copy()
                assert before["status"] <= WAITERS + 2
                await handler.finish(work, result_json=b'{"n":1}')
                found = await asyncio.gather(*calls)
                assert {(one.status, one.result_json) for one in found} == {(COMPLETED, b'{"n":1}')}
                # Each looks once more, and reads the task once.
                before.update(status=WAITERS, whole=WAITERS)
                assert counts == before


async def test_who_waits_longer_than_it_lasts_is_told_how_far_it_is(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        await handler.attach(declarations=WITH_TASKS)
        work = await run(handler, (await submit(handler)).task_id)
        with hearing(running) as counts:
            began = time.monotonic()
            found = await task(handler, work.invocation_id, wait=0.2)
            assert time.monotonic() - began >= 0.2
            assert found.status == task_service_pb2.TASK_STATUS_RUNNING
            assert counts == {"status": 1, "whole": 1}


async def test_a_task_that_is_tried_again_is_waited_for_until_it_ends(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        await handler.attach(declarations=WITH_TASKS)
        work = await run(handler, (await submit(handler, retries=1)).task_id)
        with hearing(running) as counts:
            async with waiting(handler, work.invocation_id, counts, 3) as calls:
                await handler.finish(work, FAILED)
                again = await run(handler, work.invocation_id, 2)
                assert not any(each.done() for each in calls)
                await handler.finish(again)
                assert {one.status for one in await asyncio.gather(*calls)} == {COMPLETED}


@pytest.mark.deadline(120)
async def test_an_end_by_way_of_another_sidecar_is_found_by_one_who_looks_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "LOOK_AGAIN", 0.3)
    with postgres_server({"fsync": "off"}) as url:
        async with (
            running_sidecar(tmp_path / "one", storage={"url": url}) as one,
            running_sidecar(tmp_path / "two", storage={"url": url}) as two,
            BareHandler(one) as handler,
            BareHandler(two) as other,
        ):
            await handler.attach(declarations=WITH_TASKS)
            work = await run(handler, (await submit(handler)).task_id)
            with hearing(two) as counts:
                began = time.monotonic()
                async with waiting(other, work.invocation_id, counts, 20) as calls:
                    await eventually(lambda: counts["status"] >= 24, timeout=20)
                    looks = counts["status"] - 20
                    assert looks <= (time.monotonic() - began) / 0.3 + 1
                    await handler.finish(work)
                    found = await asyncio.wait_for(asyncio.gather(*calls), 20)
                    assert {one.status for one in found} == {COMPLETED}
                    assert counts["whole"] == 20


async def test_who_waits_for_a_task_of_a_session_that_is_deleted_learns_that_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "LOOK_AGAIN", 0.3)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=WITH_TASKS)
            session = await ada.open()
            await ada.say(session, "hello")
            turn = await handler.work()
            made = await submit(handler, turn, in_session=True, delay=Duration(seconds=600))
            with hearing(running) as counts:
                async with waiting(handler, made.task_id, counts, 5) as calls:
                    await ada.call("DeleteSession", session_id=session)
                    refused = await asyncio.gather(*calls, return_exceptions=True)
                    for each in refused:
                        assert isinstance(each, grpc.aio.AioRpcError)
                        assert refusal_of(each).reason == "NOT_FOUND"

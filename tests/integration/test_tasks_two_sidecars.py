"""Tasks that end by way of another sidecar than that which their process is attached to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2, task_service_pb2
from tests.support.eventually import eventually
from tests.support.postgres import postgres_server
from tests.support.sidecar import PATIENT, BareHandler, Running, request_id, running_sidecar
from tests.support.tasks import WITH_TASKS, call, reaches, run, submit
from tests.support.work import acknowledged


@asynccontextmanager
async def _two(
    home: Path, **timing: float
) -> AsyncIterator[tuple[Running, BareHandler, BareHandler]]:
    """The sidecar with the process, that process, and one that only calls the other sidecar.

    The first sweeps so seldom that the other does all that is due.
    """
    with postgres_server({"fsync": "off"}) as url:
        storage = {"url": url}
        often = PATIENT | timing
        seldom = often | {"sweep_interval": 1.0}
        async with (
            running_sidecar(home / "one", storage=storage, timing=seldom) as one,
            running_sidecar(home / "two", storage=storage, timing=often) as two,
            BareHandler(one) as handler,
            BareHandler(two) as other,
        ):
            await handler.attach(declarations=WITH_TASKS)
            yield one, handler, other


def _free(running: Running) -> int:
    """Returns how many places the one process has."""
    assert running.sidecar is not None
    (process,) = running.sidecar._dispatcher.processes
    return running.sidecar._dispatcher._slots._holders[process.number].free


def _cancels(handler: BareHandler) -> list[int]:
    """Returns why a process was told to end work."""
    return [f.cancel.reason for f in handler.frames if f.HasField("cancel")]


@pytest.mark.deadline(120)
async def test_a_cancellation_by_way_of_another_sidecar_reaches_the_handler(tmp_path: Path) -> None:
    # Told by the first one's next sweep, which must not come behind the end of the grace.
    async with _two(tmp_path, stop_grace=30.0) as (one, handler, other):
        free = _free(one)
        work = await run(handler, (await submit(handler)).task_id)
        wanted = task_service_pb2.TaskFilter(task_ids=[work.invocation_id])
        request = task_service_pb2.CancelTasksRequest(request_id=request_id(), filter=wanted)
        assert (await call(other, "CancelTasks", request)).cancelled == 1
        await handler.gets("cancel")
        assert _cancels(handler) == [handler_service_pb2.CANCEL_REASON_TASK_CANCELLED]
        await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
        await acknowledged(handler, work)
        await reaches(other, work.invocation_id, "CANCELLED")
        assert _free(one) == free


@pytest.mark.deadline(120)
async def test_a_place_is_free_again_when_another_sidecar_has_ended_its_task(
    tmp_path: Path,
) -> None:
    async with _two(tmp_path) as (one, handler, other):
        free = _free(one)
        ids = [(await submit(handler, timeout={"nanos": 100_000_000})).task_id for _ in range(4)]
        works = await asyncio.gather(*(run(handler, each) for each in ids))
        for work in works:  # it says nothing, and is fenced by whichever sidecar looks first
            await reaches(other, work.invocation_id, "TIMED_OUT")
        await eventually(lambda: _free(one) == free, timeout=15, message="its places are free")
        for work in works:
            await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_CANCELLED)
            await acknowledged(handler, work)
        assert _free(one) == free

"""Tasks that fail, take too long, or lose their process."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, app_of, walks
from tests.support.eventually import eventually
from tests.support.programs import running
from tests.support.sidecar import FAST, Running, running_sidecar


@walks("App.task(retries=)", "backoff with jitter", "retrying")
async def test_retries_count_exceptions_with_a_growing_wait_between_them(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    tries: list[float] = []
    seen: list[Any] = []

    @app.task(retries=2)
    async def work(session: capsule.Session) -> str:
        tries.append(time.monotonic())
        task = capsule.current_task()
        assert task is not None
        seen.append((task.attempt, task.failures))
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return "done"

    async with app.attached():
        handle = await work.submit()

        async def retrying() -> bool:
            return await handle.status() == "retrying"

        await eventually(retrying, timeout=WAIT)
        assert await handle.result(timeout=WAIT) == "done"
    assert seen == [(1, 0), (2, 1), (3, 2)]
    # Exponential, each shortened by up to a quarter: 1 s, then 2 s.
    assert tries[1] - tries[0] >= 0.75
    assert tries[2] - tries[1] >= 1.5


@walks("App.task(retries=)", "failed")
async def test_without_retries_left_a_task_has_failed(sidecar: Running) -> None:
    app = app_of(sidecar)
    tries: list[None] = []

    @app.task(retries=0)
    async def work(session: capsule.Session) -> None:
        tries.append(None)
        raise RuntimeError("never")

    async with app.attached():
        handle = await work.submit()
        with pytest.raises(capsule.CapsuleError):
            await handle.result(timeout=WAIT)
        assert await handle.status() == "failed"
    assert len(tries) == 1


@walks("App.task(timeout=)", "timed_out")
async def test_a_try_that_takes_too_long_is_cancelled_and_the_task_timed_out(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    cancelled: list[None] = []

    @app.task(timeout=1.0)  # as long as it may take to begin
    async def work(session: capsule.Session) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(None)
            raise

    async with app.attached():
        handle = await work.submit()
        with pytest.raises(capsule.CapsuleError):
            await handle.result(timeout=WAIT)
        assert await handle.status() == "timed_out"
    assert len(cancelled) == 1


@walks("App.task(retries=)", "App.task(timeout=)")
async def test_retries_count_timeouts_too(sidecar: Running) -> None:
    app = app_of(sidecar)
    tries: list[None] = []

    @app.task(retries=1, timeout=1.5)  # the second try is to be over within it
    async def work(session: capsule.Session) -> str:
        tries.append(None)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return "the second time"

    async with app.attached():
        assert await (await work.submit()).result(timeout=WAIT) == "the second time"


@walks("App.task(retry_for=)")
async def test_retry_for_tries_its_errors_and_their_subclasses_again_and_no_others(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    tries: list[str] = []

    @app.task(retries=1, retry_for=LookupError)
    async def work(session: capsule.Session, kind: str) -> str:
        tries.append(kind)
        if tries.count(kind) == 2:
            return "tried again"
        raise {"subclass": KeyError, "other": ValueError}[kind]

    async with app.attached():
        again, not_again = await work.submit(kind="subclass"), await work.submit(kind="other")
        assert await again.result(timeout=WAIT) == "tried again"
        with pytest.raises(capsule.CapsuleError):
            await not_again.result(timeout=WAIT)
    assert sorted(tries) == ["other", "subclass", "subclass"]


@walks("failed")
async def test_a_result_that_is_not_json_fails_the_task_once(sidecar: Running) -> None:
    app = app_of(sidecar)
    tries: list[None] = []

    @app.task(retries=3)
    async def work(session: capsule.Session) -> Any:
        tries.append(None)
        return {1, 2}

    async with app.attached():
        handle = await work.submit()
        with pytest.raises(capsule.CapsuleError):
            await handle.result(timeout=WAIT)
        assert await handle.status() == "failed"
    assert len(tries) == 1


@walks("App.task(redeliver=)")
@pytest.mark.parametrize("redeliver", [True, False])
async def test_a_task_whose_process_leaves_runs_again_unless_it_is_not_to_be_redelivered(
    sidecar: Running, redeliver: bool
) -> None:
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    begun = asyncio.Event()

    @first.task(name="work", redeliver=redeliver)
    async def hang(session: capsule.Session) -> None:
        begun.set()
        await asyncio.Event().wait()

    @second.task(redeliver=redeliver)
    async def work(session: capsule.Session) -> Any:
        task = capsule.current_task()
        assert task is not None
        return [task.attempt, task.failures]

    async with first.attached():
        handle = await hang.submit()
        await asyncio.wait_for(begun.wait(), WAIT)
    async with second.attached():
        again = work.handle(handle.id)
        if redeliver:
            assert await again.result(timeout=WAIT) == [2, 0]
        else:
            with pytest.raises(capsule.CapsuleError):
                await again.result(timeout=WAIT)
            assert await again.status() == "failed"


LOST = """
import asyncio

import capsule_client as capsule

app = capsule.App({name!r})


@app.task()
async def again(session: capsule.Session) -> None:
    print("again runs", flush=True)
    await asyncio.Event().wait()


@app.task(redeliver=False)
async def once(session: capsule.Session) -> None:
    print("once runs", flush=True)
    await asyncio.Event().wait()


@app.boot()
async def boot() -> None:
    await again.submit()
    await once.submit()


app.run()
"""


@walks("lost leases", "App.task(redeliver=)")
async def test_a_lost_process_costs_a_delivery_and_no_retry_or_fails_the_task(
    tmp_path: Path,
) -> None:
    # A process that is slow is not to be taken for one that is lost.
    timing = FAST | {"lease_term": 4.0, "fresh_beat": 2.5}
    async with running_sidecar(tmp_path / "home", timing=timing) as sidecar:
        app = app_of(sidecar)
        (tmp_path / "app.py").write_text(LOST.format(name=app.name))
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(sidecar.home)}

        @app.task()
        async def again(session: capsule.Session) -> Any:
            task = capsule.current_task()
            assert task is not None
            return [task.attempt, task.failures]

        @app.task(redeliver=False)
        async def once(session: capsule.Session) -> None: ...

        async with running([sys.executable, "app.py"], environment, cwd=tmp_path) as program:
            await program.shows("again runs")
            await program.shows("once runs")
            await program.kill()
        async with app.attached():
            ((first,), (second,)) = await again.find(), await once.find()
            assert await again.handle(first.id).result(timeout=WAIT) == [2, 0]
            with pytest.raises(capsule.CapsuleError):
                await once.handle(second.id).result(timeout=WAIT)
            assert await once.handle(second.id).status() == "failed"

"""Tasks: submitted, scheduled, found, waited for and cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, app_of, doing, talking, walks
from tests.support.eventually import eventually
from tests.support.sidecar import Running


async def until(handle: Any, status: str) -> None:
    """Waits until a task has a status."""

    async def reached() -> bool:
        return bool(await handle.status() == status)

    await eventually(reached, timeout=WAIT, message=status)


@walks("Task.submit", "TaskHandle.id", "TaskHandle.result", "TaskHandle.status", "completed")
async def test_a_submitted_task_runs_with_its_arguments_and_its_result_is_kept(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)

    @app.task()
    async def add(session: capsule.Session, a: int, b: int = 1) -> dict[str, int]:
        return {"sum": a + b}

    async with app.attached():
        handle = await add.submit(a=1, b=2)
        assert handle.id.startswith("tsk_")
        assert await handle.result(timeout=WAIT) == {"sum": 3}
        assert await handle.status() == "completed"
    async with app.attached():  # another process knows it by its id
        assert await add.handle(handle.id).result() == {"sum": 3}


@walks("Task.submit")
async def test_a_task_submitted_with_a_session_runs_in_it(sidecar: Running) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> Any:
        assert capsule.current_session() is session
        assert session.user is not None
        await session.reply("from the task")
        return [session.id, session.user.id, session.channel.type]

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        handle = await work.submit(session=session)
        return handle, session.user

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        handle, user = await step.gives()
        told = await handle.result(timeout=WAIT)
        assert told == [step.session, user.id, "terminal"]
        assert await step.said() == ["from the task"]


@walks("a task runs inline")
async def test_calling_the_decorated_function_runs_it_inline(sidecar: Running) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session, n: int) -> Any:
        return session, n, capsule.current_task()

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        ran_in, n, task = await work(session, n=7)
        return ran_in is session, n, task, await work.count()

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        assert await step.gives() == (True, 7, None, 0)


@walks("Task.schedule", "scheduled", "TaskHandle.cancel", "cancelled")
@pytest.mark.parametrize("form", ["string", "timedelta", "at"])
async def test_a_scheduled_task_waits_for_its_time_and_can_be_cancelled(
    sidecar: Running, form: str
) -> None:
    app = app_of(sidecar)
    started: list[None] = []

    @app.task()
    async def work(session: capsule.Session) -> None:
        started.append(None)

    times: dict[str, dict[str, Any]] = {
        "string": {"delay": "30m"},
        "timedelta": {"delay": timedelta(minutes=30)},
        "at": {"at": datetime.now(UTC) + timedelta(minutes=30)},
    }
    async with app.attached():
        handle = await work.schedule(**times[form])
        assert await handle.status() == "scheduled"
        (info,) = await work.find()
        assert info.start_time is not None
        wait = info.start_time - datetime.now(UTC)
        assert timedelta(minutes=29) < wait <= timedelta(minutes=30)
        await handle.cancel()
        assert await handle.status() == "cancelled"
        with pytest.raises(capsule.CapsuleError):
            await handle.result(timeout=WAIT)
    assert started == []


@walks("Task.schedule")
@pytest.mark.parametrize("form", ["string", "timedelta", "at"])
async def test_a_scheduled_task_runs_at_its_time(sidecar: Running, form: str) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session, n: int) -> Any:
        return [n, datetime.now(UTC).timestamp()]

    due = datetime.now(UTC) + timedelta(seconds=1)
    times: dict[str, dict[str, Any]] = {
        "string": {"delay": "1s"}, "timedelta": {"delay": timedelta(seconds=1)}, "at": {"at": due},
    }  # fmt: skip
    async with app.attached():
        n, ran = await (await work.schedule(**times[form], n=7)).result(timeout=WAIT)
    assert n == 7
    assert ran >= due.timestamp()


@walks("pending", "running")
async def test_a_task_is_pending_until_a_process_has_room_and_then_running(
    sidecar: Running,
) -> None:
    app = app_of(sidecar, concurrency=1)
    go_on = asyncio.Event()

    @app.task()
    async def work(session: capsule.Session) -> None:
        await go_on.wait()

    async with app.attached():
        first, second = await work.submit(), await work.submit()
        await until(first, "running")
        assert await second.status() == "pending"
        go_on.set()
        await second.result(timeout=WAIT)


@walks("TaskHandle.result", "failed")
async def test_the_result_of_a_task_that_failed_is_an_error_that_tells_no_words(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None:
        raise LookupError("the password is tiger")

    async with app.attached():
        handle = await work.submit()
        with pytest.raises(capsule.CapsuleError) as caught:
            await handle.result(timeout=WAIT)
        assert await handle.status() == "failed"
    assert "tiger" not in str(caught.value)


@walks("TaskHandle.result")
async def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_task_goes_on(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    go_on = asyncio.Event()

    @app.task()
    async def work(session: capsule.Session) -> str:
        await go_on.wait()
        return "done"

    async with app.attached():
        handle = await work.submit()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.1)
        go_on.set()
        assert await handle.result(timeout=WAIT) == "done"


@walks("TaskHandle.cancel", "cancelled")
async def test_a_running_task_is_cancelled(sidecar: Running) -> None:
    app = app_of(sidecar)
    begun = asyncio.Event()
    ended: list[BaseException] = []

    @app.task()
    async def work(session: capsule.Session) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    async with app.attached():
        handle = await work.submit()
        await asyncio.wait_for(begun.wait(), WAIT)  # it is given out before it begins
        assert await handle.status() == "running"
        await handle.cancel()
        await until(handle, "cancelled")
    assert len(ended) == 1


@walks("Task.find", "Task.count", "Task.cancel")
async def test_tasks_are_found_counted_and_cancelled_by_their_function(sidecar: Running) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session, n: int) -> None: ...

    @app.task()
    async def other(session: capsule.Session) -> None: ...

    async with app.attached():
        done = await work.submit(n=0)
        await done.result(timeout=WAIT)
        later = [await work.schedule("1h", n=n) for n in (1, 2)]
        elsewhere = await other.schedule("1h")
        assert await work.count() == 3
        assert await work.count(status="scheduled") == 2
        assert [info.id for info in await work.find()] == [
            later[1].id, later[0].id, done.id,
        ]  # fmt: skip
        assert [info.id for info in await work.find(status="completed")] == [done.id]
        assert await work.cancel() == 2
        assert await work.count(status="cancelled") == 2
        assert [await elsewhere.status(), await done.status()] == ["scheduled", "completed"]


@walks("current_task")
async def test_the_running_task_is_found_from_any_depth_and_nowhere_else(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    seen: list[Any] = []

    async def deep() -> Any:
        return capsule.current_task()

    @app.task(retries=3)
    async def work(session: capsule.Session) -> Any:
        task = capsule.current_task()
        assert task is not None
        seen.append(task is await deep() is await asyncio.create_task(deep()))
        return [task.id, task.attempt, task.failures]

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return capsule.current_task()

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        handle = await work.submit()
        assert await handle.result(timeout=WAIT) == [handle.id, 1, 0]
        assert await step.gives() is None
    assert seen == [True]


@walks("progress")
async def test_a_task_says_how_far_it_is(sidecar: Running) -> None:
    app = app_of(sidecar)
    go_on = asyncio.Event()

    @app.task()
    async def work(session: capsule.Session) -> None:
        task = capsule.current_task()
        assert task is not None
        task.progress(0.1, "4 of 40")  # type: ignore[unused-awaitable]  # it queues
        await task.progress(0.4, "40 of 100")
        await go_on.wait()

    async with app.attached():
        handle = await work.submit()

        async def told() -> bool:
            info = await handle.info()
            return (info.progress, info.progress_message) == (0.4, "40 of 100")

        await eventually(told, timeout=WAIT)
        go_on.set()
        await handle.result(timeout=WAIT)


@walks("tasks beside the lane")
async def test_a_task_runs_beside_the_turn_that_submitted_it(sidecar: Running) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> str:
        return "beside"

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await (await work.submit(session=session)).result(timeout=WAIT)

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        assert await step.gives() == "beside"


@walks("data of two writers")
async def test_a_turn_and_a_task_that_write_two_keys_both_keep_their_change(
    sidecar: Running,
) -> None:
    """And of one key, the later write wins."""
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None:
        session.data["of the task"] = True
        session.data["of both"] = "task"

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        if msg.text == "write":
            session.data["of the turn"] = True
            session.data["of both"] = "turn"
            await (await work.submit(session=session)).result(timeout=WAIT)
        return dict(session.data)

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        await step.gives("write")
        assert await step.gives("look") == {
            "of the turn": True, "of the task": True, "of both": "turn",
        }  # fmt: skip


@walks("App.task(lock=)")
async def test_a_second_submission_while_the_lock_is_held_joins_the_first(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)
    go_on = asyncio.Event()

    @app.task(lock="sync:{owner_id}")
    async def work(session: capsule.Session, owner_id: str, n: int = 0) -> int:
        await go_on.wait()
        return n

    async with app.attached():
        first = await work.submit(owner_id="ada", n=1)
        joined = await work.submit(owner_id="ada", n=2)
        other = await work.submit(owner_id="bob", n=3)
        assert first == joined
        assert first.id == joined.id != other.id
        go_on.set()
        assert [await one.result(timeout=WAIT) for one in (first, joined, other)] == [1, 1, 3]
        after = await work.submit(owner_id="ada", n=4)  # nobody holds it any more
        assert after.id != first.id
        assert await after.result(timeout=WAIT) == 4


@walks("App.task(lock=)")
@pytest.mark.parametrize("lock", ["{owner.id}", "{owner!r}", "{owner:>9}", "{0}", "{nobody}"])
async def test_a_lock_takes_names_of_arguments_alone(sidecar: Running, lock: str) -> None:
    app = app_of(sidecar)
    with pytest.raises(ValueError, match="lock"):

        @app.task(lock=lock)
        async def work(session: capsule.Session, owner: str) -> None: ...


@walks("App.task", "Task.submit")
async def test_a_turn_that_is_delivered_again_submits_its_task_once(sidecar: Running) -> None:
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    submitted = asyncio.Event()
    ids: list[str] = []

    def prepare(app: capsule.App, *, hang: bool) -> Any:
        @app.task()
        async def work(session: capsule.Session) -> None: ...

        async def do(session: capsule.Session, msg: capsule.Message) -> Any:
            ids.append((await work.submit(session=session)).id)
            if hang:
                submitted.set()
                await asyncio.Event().wait()
            return await work.count()

        return doing(app, do)

    prepare(first, hang=True)
    results = prepare(second, hang=False)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            await step.says()
            await asyncio.wait_for(submitted.wait(), WAIT)
        async with second.attached():
            assert await step.result() == 1
    assert ids[0] == ids[1]

"""`session.show_task`: a card of a task, which the sidecar keeps current."""

from __future__ import annotations

import asyncio
import json

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import Serving, app_of, kit_of, walks

UNKNOWN = "tsk_00000000000000000000000000"


@walks("Session.show_task")
@pytest.mark.parametrize("by", ["handle", "id"])
async def test_a_card_shows_status_progress_and_result_without_further_calls(
    sidecar: Serving, by: str
) -> None:
    app = app_of(sidecar)
    report, finish = asyncio.Event(), asyncio.Event()

    @app.task()
    async def work(session: capsule.Session) -> dict[str, int]:
        await report.wait()
        task = capsule.current_task()
        assert task is not None
        await task.progress(0.4, "40 of 100")
        await finish.wait()
        return {"synced": 1}

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        task = await work.submit(session=session)
        await session.show_task(task if by == "handle" else task.id, message="Sync started")

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.say("go")
        assert (await ann.ended()).status == "completed"  # the task outlives its turn
        await ann.block("task", status="running", message="Sync started")
        report.set()
        await ann.block("task", progress=0.4, progress_message="40 of 100")
        finish.set()
        await ann.block("task", status="completed", result={"synced": 1})


@walks("Session.show_task")
async def test_a_card_shows_an_error_by_its_reference_alone(sidecar: Serving) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None:
        raise LookupError("the password is tiger")

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_task(await work.submit(session=session))

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.say("go")
        shown = (await ann.block("task", status="failed")).payload
        assert shown["reference_id"]
        assert "tiger" not in json.dumps(dict(shown))


@walks("Session.show_task")
async def test_a_card_is_one_block_that_changes_in_its_place_on_every_page(
    sidecar: Serving,
) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None: ...

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        task = await work.schedule("1h", session=session)
        await session.show_task(task)
        await session.reply("below it")
        await task.cancel()

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.say("go")
        await ann.block("task", status="cancelled")  # on the page that is open
        after_a_reload = await ann.history()
        assert [type(item) for item in after_a_reload] == [
            capsule.Message, capsule.Block, capsule.Message,
        ]  # fmt: skip
        assert isinstance(after_a_reload[1], capsule.Block)
        assert after_a_reload[1].payload["status"] == "cancelled"


@walks("Session.show_task", "NotFound")
async def test_a_card_of_an_unknown_task_is_an_error(sidecar: Serving) -> None:
    app = app_of(sidecar)

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        with pytest.raises(capsule.NotFound):
            await session.show_task(UNKNOWN)
        await session.reply("not found")

    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.say("go")
        assert await ann.replies() == ["not found"]
        assert ann.blocks == []

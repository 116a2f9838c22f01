"""`session.show_task`: a card of a task, which the sidecar keeps current."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, Stage, app_of, doing, talking, walks
from tests.support.eventually import eventually
from tests.support.sidecar import Running


async def cards(step: Stage) -> list[dict[str, Any]]:
    """Returns the cards that the session shows."""
    shown = await step.blocks()
    return [json.loads(block.payload_json) for block in shown if block.type == "task"]


async def card(step: Stage, **wanted: Any) -> dict[str, Any]:
    """Waits until the session's one card says this."""

    async def says() -> dict[str, Any]:
        (found,) = await cards(step)
        assert {name: found.get(name) for name in wanted} == wanted
        return found

    return await eventually(says, timeout=WAIT, message=str(wanted))


@walks("Session.show_task")
@pytest.mark.parametrize("by", ["handle", "id"])
async def test_a_card_shows_status_progress_and_result_without_further_calls(
    sidecar: Running, by: str
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

    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        handle = await work.submit(session=session)
        await session.show_task(handle if by == "handle" else handle.id, message="Sync started")
        return handle.id

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        turn_id = await step.says()
        task_id = await step.result()
        await step.end_of(turn_id)  # the task outlives its turn
        await card(step, task_id=task_id, status="running", message="Sync started")
        report.set()
        await card(step, status="running", progress=0.4, progress_message="40 of 100")
        finish.set()
        await card(step, status="completed", result={"synced": 1})


@walks("Session.show_task")
async def test_a_card_shows_an_error_by_its_reference_alone(sidecar: Running) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None:
        raise LookupError("the password is tiger")

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_task(await work.submit(session=session))

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        await step.gives()
        shown = await card(step, status="failed")
        assert shown["reference_id"]
        assert "tiger" not in json.dumps(shown)


@walks("Session.show_task")
async def test_a_card_is_one_block_that_changes_in_its_place_on_every_page(
    sidecar: Running,
) -> None:
    app = app_of(sidecar)

    @app.task()
    async def work(session: capsule.Session) -> None: ...

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        handle = await work.schedule("1h", session=session)
        await session.show_task(handle)
        await session.reply("below it")
        if msg.text == "cancel":
            await handle.cancel()

    async with (
        talking(sidecar, app, doing(app, do)) as step, app.attached(), await step.follow() as page,
    ):  # fmt: skip
        await step.gives("cancel")
        first, last = await page.sees("block_shown"), await page.sees("block_shown", 2)
        assert last.item_offset == first.offset
        await card(step, status="cancelled")
        items = await step.person.timeline(step.session)
        assert [str(item.WhichOneof("item")) for item in items] == ["message", "block", "message"]


@walks("Session.show_task")
async def test_a_card_of_an_unknown_task_is_an_error(sidecar: Running) -> None:
    app = app_of(sidecar)

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_task("tsk_00000000000000000000000000")

    async with talking(sidecar, app, doing(app, do)) as step, app.attached():
        with pytest.raises(capsule.NotFound):
            await step.gives()
        assert await cards(step) == []

"""From where tasks may be called: inline, behind a handler that has returned, other threads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import capsule_client as capsule
from tests.integration.test_task_handlers import NOBODY, scene
from tests.support.eventually import eventually


async def test_a_task_called_inline_within_a_task_is_none_and_reports_nothing(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as at:
        seen: list[str | None] = []
        go_on = asyncio.Event()

        def name() -> str | None:
            running = capsule.current_task()
            return None if running is None else running.name

        @at.app.task()
        async def inner(session: capsule.Session) -> str:
            seen.append(name())
            running = capsule.current_task()
            if running is not None:
                await running.progress(0.9, "the inner one's")
            raise ValueError("of the inner one")

        @at.app.task()
        async def outer(session: capsule.Session) -> None:
            running = capsule.current_task()
            assert running is not None
            await running.progress(0.1, "the outer one's")
            try:
                await inner(session)
            except ValueError:
                seen.append(name())
            await go_on.wait()

        async with at.attached(NOBODY):
            handle = await outer.submit()
            await eventually(lambda: len(seen) == 2)
            info = await handle.info()
            assert (info.progress, info.progress_message) == (0.1, "the outer one's")
            go_on.set()
            await handle.result(30)
        assert seen == [None, "outer"]


async def test_what_a_handler_left_running_asks_for_tasks_in_the_apps_name(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as at:
        go_on = asyncio.Event()
        kept: list[asyncio.Task[None]] = []

        @at.app.task()
        async def work(session: capsule.Session, n: int) -> int:
            await go_on.wait()
            return n

        async def do(session: capsule.Session, msg: capsule.Message) -> None:
            first = await work.submit(n=1)
            returned = asyncio.Event()

            async def monitor() -> None:
                await returned.wait()
                assert await first.status() in ("pending", "running")
                assert (await first.info()).args == {"n": 1}
                second = await work.submit(n=2)
                assert [one.id for one in await work.find()] == [second.id, first.id]
                with pytest.raises(capsule.Superseded, match="has returned"):
                    await work.submit(session, n=3)
                with pytest.raises(capsule.Superseded, match="has returned"):
                    await session.show_task(first)
                with pytest.raises(capsule.Superseded, match="has returned"):
                    await session.reply("too late")
                assert await (await work.schedule(delay="1h", n=4)).cancel()
                go_on.set()
                assert await first.result(30) + await second.result(30) == 3
                assert await work.count("completed") == 2

            async def until_returned() -> None:
                await eventually(lambda: session._calls.returned)
                returned.set()

            kept.append(asyncio.create_task(monitor()))
            kept.append(asyncio.create_task(until_returned()))

        async with at.attached(do) as session:
            await at.ada.say(session, "go")
            await eventually(lambda: len(kept) == 2)
            async with asyncio.timeout(60):
                await asyncio.gather(*kept)

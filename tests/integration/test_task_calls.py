"""From where tasks may be called: inline, behind a handler that has returned, other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

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


async def test_a_thread_says_how_far_a_task_is(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        go_on = asyncio.Event()

        @at.app.task()
        async def work(session: capsule.Session) -> str:
            running = capsule.current_task()
            assert running is not None

            def in_thread() -> None:
                _ = running.progress(0.25, "begun")
                _ = running.progress(0.5, "by a thread")
                with pytest.raises(ValueError, match="from 0 to 1"):
                    _ = running.progress(2)

            await asyncio.to_thread(in_thread)
            await go_on.wait()
            return "done"

        async with at.attached(NOBODY):
            handle = await work.submit()

            async def told() -> bool:
                info = await handle.info()
                return (info.progress, info.progress_message) == (0.5, "by a thread")

            await eventually(told)
            go_on.set()
            assert await handle.result(30) == "done"


async def test_a_call_on_another_loop_says_which_is_the_apps(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        entries = at.app.collection("entries", scope="app")

        @at.app.task()
        async def noop(session: capsule.Session) -> int:
            return 1

        @at.app.task()
        async def work(session: capsule.Session) -> list[str]:
            running = capsule.current_task()
            assert running is not None
            first = await noop.submit()
            out = session.stream_reply()

            async def streams() -> None:
                async with out as stream:
                    await stream.write("x")

            async def reports() -> None:
                await running.progress(0.5)

            async def finds() -> None:
                await entries.find()

            calls: list[Callable[[], Awaitable[Any]]] = [
                noop.submit, noop.count, first.result, first.cancel, reports, finds, streams,
                lambda: session.reply("x"), lambda: session.prompt_approval("yes?"),
                lambda: session.set("key", 1), lambda: entries.insert_one({}),
            ]  # fmt: skip

            async def refused(call: Callable[[], Awaitable[Any]]) -> str:
                with pytest.raises(RuntimeError) as told:
                    await call()
                return str(told.value)

            loop = asyncio.get_running_loop()

            def in_thread() -> list[str]:
                handed = asyncio.run_coroutine_threadsafe(noop.submit(), loop).result(30)
                assert isinstance(handed, capsule.TaskHandle)
                return [asyncio.run(refused(call)) for call in calls]

            async with asyncio.timeout(20):
                found = await asyncio.to_thread(in_thread)
            assert all(repr(loop) in each for each in found), found
            return found

        async def do(session: capsule.Session, msg: capsule.Message) -> list[str]:
            handle = await work.submit(session)
            return await handle.result(60)

        told = await at.done(do)
        assert len(told) == 11
        assert all("asyncio.run_coroutine_threadsafe" in each for each in told)

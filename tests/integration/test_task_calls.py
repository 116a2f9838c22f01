"""From where tasks may be called: inline, behind a handler that has returned, other threads."""

from __future__ import annotations

import asyncio
from pathlib import Path

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

"""The demo's commands that have work done beside the conversation: tasks, and a schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import capsule_client as capsule

Command = Callable[[capsule.Session, capsule.Message, str], Awaitable[None]]

HELP = """\
- `task [SECONDS]` works beside the conversation (20), with a card that shows how far it is: go on \
talking, reload the page, or kill -9 this process
- `flaky [TIMES]` a task that fails so often (2) before it is done; each try comes later
- `later [DELAY] TEXT` says TEXT later: `later 1m30s tea is ready`
- `tasks` lists what is not over, `cancel` ends it
- `ticks` how often the demo's schedule has come: every full hour, in Berlin"""

OPEN: tuple[Any, ...] = ("scheduled", "pending", "running", "retrying")


def declare(app: capsule.App) -> dict[str, Command]:
    """Has an app do them; returns the commands."""

    @app.task(timeout=3600, lock="work:{session_id}")
    async def work(session: capsule.Session, session_id: str, seconds: int) -> dict[str, int]:
        """Works, and says how far it is."""
        current = capsule.current_task()
        for done in range(seconds):
            if current is not None:
                await current.progress(done / seconds, f"{done} of {seconds} seconds")
            await asyncio.sleep(1)
        await session.reply(f"The work is done. It took {seconds} seconds.")
        return {"seconds": seconds}

    @app.task(retries=10, retry_for=ConnectionError)
    async def flaky(session: capsule.Session, times: int) -> str:
        """Fails so often, as a service that is down would have it."""
        current = capsule.current_task()
        failures = current.failures if current is not None else times
        if failures < times:
            raise ConnectionResetError(f"the demo was asked to fail: {failures + 1} of {times}")
        return f"done after {failures} failures"

    @app.task()
    async def remind(session: capsule.Session, text: str) -> None:
        """Says something."""
        await session.reply(f"You wanted to hear: {text}")

    @app.schedule("0 * * * *", timezone="Europe/Berlin")
    async def hourly(session: capsule.Session) -> None:
        """Counts: there is nobody to reply to here."""
        await session.increment("ticks", scope="app")

    async def start(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Starts work; while some goes on in this session, its card is shown again."""
        seconds = min(int(rest), 3600) if rest.isdecimal() and int(rest) else 20
        task = await work.submit(session=session, session_id=session.id, seconds=seconds)
        await session.show_task(task, message=f"Working for {seconds} seconds")

    async def try_often(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Starts a task that fails first."""
        times = min(int(rest), 10) if rest.isdecimal() else 2
        task = await flaky.submit(session=session, times=times)
        await session.show_task(task, message=f"Done at try {times + 1}")

    async def later(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Schedules a task."""
        delay, _, text = rest.partition(" ")
        try:
            task = await remind.schedule(delay, session=session, text=text or "(nothing)")
        except ValueError:
            task = await remind.schedule("10s", session=session, text=rest or "(nothing)")
        await session.show_task(task, message="A word for later")

    async def tasks(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Lists this session's tasks that are not over."""
        lines = [
            f"- {each.name}: {each.status}, {each.progress or 0:.0%}"
            for kind in (work, flaky, remind)
            for each in await kind.find(OPEN, session, limit=10)
        ]
        await session.reply("\n".join(lines) or "There is nothing to do. Type task.")

    async def cancel(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Cancels this session's tasks."""
        gone = [await kind.cancel(session=session) for kind in (work, flaky, remind)]
        await session.reply(f"Cancelled: {sum(gone)}.")

    async def ticks(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Says how often the schedule has come."""
        await session.reply(f"Full hours so far: {await session.get('ticks', 0, scope='app')}.")

    return {
        "task": start,
        "flaky": try_often,
        "later": later,
        "tasks": tasks,
        "cancel": cancel,
        "ticks": ticks,
    }

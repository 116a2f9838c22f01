"""`@app.schedule`: ticks, each of them one invocation."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import WAIT, Serving, app_of, kit_of, walks
from tests.support.eventually import eventually
from tests.support.sidecar import SidecarProcess


async def daily(timed: Serving) -> str:
    """Returns the line of a time of day that is half a day away: none passes unless days do."""
    async with kit_of(timed, app_of(timed)) as kit:
        return _half_a_day_from(await kit.advance(seconds=0.001))


def _half_a_day_from(now: datetime) -> str:
    return f"{now.minute} {(now.hour + 12) % 24} * * *"


@walks("App.schedule", "one tick")
async def test_each_tick_is_one_invocation_however_many_processes_are_attached(
    timed: Serving,
) -> None:
    first = app_of(timed)
    second = app_of(timed, first.name)
    line = await daily(timed)
    ticks: list[str] = []

    @first.schedule(line)
    async def nightly(session: capsule.Session) -> None:
        ticks.append("first")

    @second.schedule(line, name="nightly")
    async def nightly_too(session: capsule.Session) -> None:
        ticks.append("second")

    async with kit_of(timed, first) as kit, second.attached():
        for day in range(1, 4):
            await kit.advance(days=1)
            await eventually(lambda: len(ticks) >= day, timeout=WAIT)  # noqa: B023
            await kit.advance(seconds=10)  # what was queued twice would have begun by now
            assert len(ticks) == day


@walks("App.schedule")
async def test_a_schedule_ticks_by_the_clock_of_its_time_zone(timed: Serving) -> None:
    app = app_of(timed)
    ticks: list[None] = []
    async with kit_of(timed, app_of(timed)) as kit:
        due = (await kit.advance(seconds=0.001)).replace(second=0) + timedelta(hours=12)
    there = due.astimezone(ZoneInfo("Asia/Tokyo"))  # 9 hours ahead, all the year

    @app.schedule(f"{there.minute} {there.hour} * * *", timezone="Asia/Tokyo")
    async def nightly(session: capsule.Session) -> None:
        ticks.append(None)

    async with kit_of(timed, app) as kit:
        now = await kit.advance(seconds=0.001)
        await kit.advance(due - now - timedelta(minutes=5))
        assert ticks == []
        await kit.advance(minutes=5, seconds=1)
        await eventually(lambda: len(ticks) == 1, timeout=WAIT)


@walks("the latest missed tick")
async def test_of_ticks_that_passed_at_once_only_the_latest_fires(timed: Serving) -> None:
    app = app_of(timed)
    ticks: list[None] = []

    @app.schedule(await daily(timed))
    async def nightly(session: capsule.Session) -> None:
        ticks.append(None)

    async with kit_of(timed, app) as kit:
        await kit.advance(days=10)
        await eventually(lambda: ticks, timeout=WAIT)
        await kit.advance(seconds=10)
        assert len(ticks) == 1


@walks("the latest missed tick")
async def test_after_the_sidecar_was_down_only_the_latest_missed_tick_fires(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path) as process:
        app = app_of(await process.start())
        ticks: list[None] = []

        @app.schedule(_half_a_day_from(datetime.now(UTC)))
        async def nightly(session: capsule.Session) -> None:
            ticks.append(None)

        async with app.attached():
            pass
        await process.end()
        # As it would be had it been down for ten days.
        with sqlite3.connect(tmp_path / "capsule.db") as database:
            database.execute("UPDATE schedules SET next_ms = next_ms - 10 * 86400000")
        database.close()
        sidecar = await process.start()
        async with app.attached(address=sidecar.address):
            await eventually(lambda: ticks, timeout=WAIT)
        with sqlite3.connect(tmp_path / "capsule.db") as database:
            ((count,),) = database.execute("SELECT count(*) FROM invocations WHERE kind = 8")
        database.close()
        assert (len(ticks), count) == (1, 1)


@walks("one tick")
async def test_no_tick_is_queued_while_an_earlier_one_of_its_schedule_is(timed: Serving) -> None:
    app = app_of(timed, concurrency=1)
    go_on = asyncio.Event()
    ticks: list[None] = []

    @app.task()
    async def occupy(session: capsule.Session) -> None:
        await go_on.wait()

    @app.schedule(await daily(timed))
    async def nightly(session: capsule.Session) -> None:
        ticks.append(None)

    async with kit_of(timed, app) as kit:
        handle = await occupy.submit()

        async def running() -> bool:
            return await handle.status() == "running"

        await eventually(running, timeout=WAIT)
        for _ in range(3):
            await kit.advance(days=1)
        assert ticks == []
        go_on.set()
        await eventually(lambda: ticks, timeout=WAIT)
        await kit.advance(seconds=10)
        assert len(ticks) == 1


@walks("a schedule's session", "NoReplyTarget", "NoSession", "current_session")
async def test_a_schedule_has_a_session_without_a_user_and_without_a_target(
    timed: Serving,
) -> None:
    app = app_of(timed)
    app.collection("notes")
    told: list[Any] = []

    @app.schedule(await daily(timed))
    async def nightly(session: capsule.Session) -> None:
        with pytest.raises(capsule.NoReplyTarget):
            await session.reply("hello")
        with pytest.raises(capsule.NoSession):
            session.data["k"] = 1
        with pytest.raises(capsule.NoSession):
            await session.get("k")
        await session.set("k", 1, scope="app")
        await session.db.notes.insert_one({"n": 1})
        told.append((session.user, capsule.current_session() is session))

    async with kit_of(timed, app) as kit:
        await kit.advance(days=1)
        await eventually(lambda: told, timeout=WAIT)
    assert told == [(None, True)]


@walks("App.schedule")
@pytest.mark.parametrize(
    ("cron", "zone"),
    [("every night", "UTC"), ("0 0 31 2 *", "UTC"), ("30 4 * * *", "Europe/Atlantis")],
)
async def test_a_schedule_that_never_fires_is_refused_by_its_name(
    timed: Serving, cron: str, zone: str
) -> None:
    app = app_of(timed)

    @app.schedule(cron, timezone=zone)
    async def nightly(session: capsule.Session) -> None: ...

    with pytest.raises(capsule.InvalidArgument, match=r"^schedule 'nightly': .*schedules\[0\]"):
        async with app.attached():
            pass

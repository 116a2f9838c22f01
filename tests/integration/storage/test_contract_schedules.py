"""Schedules in either database: one tick for each time, whatever comes and goes."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from capsule_sidecar.model.types import (
    Declarations,
    InvocationKind,
    InvocationStatus,
    Lease,
    OutcomeStatus,
    Schedule,
)
from capsule_sidecar.storage import inspecting, leases, schedules, work_schema
from tests.integration.storage.store import MESSAGES, TERMS, Sidecar, Store

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
# Hours pass between ticks: whatever runs goes on.
UNENDING = replace(TERMS, lease_ms=100 * _HOUR, turn_deadline_ms=100 * _HOUR)
HOURLY = Schedule("hourly", "0 * * * *", "UTC")


def _past_the_hour(store: Store) -> Store:
    """Puts a store's clock a minute behind a full hour: none comes unless a test lets it come."""
    store.clock.shift_ms = _HOUR + _MINUTE - time.time_ns() // 1_000_000 % _HOUR
    return store


@pytest.fixture
def store(store: Store) -> Store:
    return _past_the_hour(store)


@pytest.fixture
def postgres_store(postgres_store: Store) -> Store:
    return _past_the_hour(postgres_store)


async def _attach(side: Sidecar, *declared: Schedule, key: str = "p1", free: int = 10) -> None:
    """Attaches a process that declares schedules, as the dispatcher does."""
    await side.do(schedules.declare, app=side.app, schedules=declared)
    await side.attach(key, free=free, takes=Declarations(schedules=declared))


def _leave(side: Sidecar) -> None:
    for process in side.slots.processes(side.app):
        side.slots.detach(process, side)


async def _now(side: Sidecar) -> int:
    return await side.do(lambda unit: unit.now_ms)


async def _until(side: Sidecar, second: int = 5) -> int:
    """Lets the time come that lies some seconds after the next full hour; returns that hour."""
    now = await _now(side)
    hour = now - now % _HOUR + _HOUR
    side.clock.advance(hour + second * 1_000 - now)
    return hour


async def _ticks(side: Sidecar) -> list[tuple[str, int, InvocationStatus]]:
    """Returns schedule, time and status of every tick, in order."""

    def rows(connection: Connection) -> list[Any]:
        columns, jobs = work_schema.invocations.c, work_schema.jobs.c
        return list(
            connection.execute(
                select(columns.name, jobs.start_ms, columns.status)
                .join(work_schema.jobs, jobs.invocation == columns.id)
                .where(columns.kind == int(InvocationKind.SCHEDULE))
                .order_by(columns.id)
            )
        )

    return [(n, at, InvocationStatus(status)) for n, at, status in await side.read(rows)]


async def _kept(side: Sidecar) -> int:
    return (await side.rows())["schedules"]


async def test_each_time_has_one_tick_however_many_processes_declare_it(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY, key="p1")
        await _attach(side, HOURLY, key="p2")
        hour = await _until(side)
        await side.sweep()
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.RUNNING)]
        (lease,) = side.held
        assert await side.finish(lease) == InvocationStatus.COMPLETED
        assert await _until(side) == hour + _HOUR
        await side.sweep()
        assert await _ticks(side) == [
            ("hourly", hour, InvocationStatus.COMPLETED),
            ("hourly", hour + _HOUR, InvocationStatus.RUNNING),
        ]


async def test_of_what_was_missed_the_latest_alone_fires(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        hour = await _until(side)
    side.clock.advance(70 * _HOUR)  # nobody sweeps
    async with store.sidecar() as side:
        await side.sweep()
        # It waits for a process, whichever comes first.
        await side.attach("other", takes=MESSAGES)
        assert await _ticks(side) == [("hourly", hour + 70 * _HOUR, InvocationStatus.QUEUED)]
        await _attach(side, HOURLY)
        assert len(side.held) == 1
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour + 70 * _HOUR, InvocationStatus.RUNNING)]


async def test_a_process_that_declares_the_same_again_neither_loses_nor_doubles_a_tick(
    store: Store,
) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        hour = await _until(side)
        _leave(side)
        # It comes back when the time has come and nobody has swept yet ...
        await _attach(side, HOURLY)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.RUNNING)]
        # ... and again right after its tick.
        await side.finish(side.held[-1])
        _leave(side)
        await _attach(side, HOURLY)
        await side.sweep()
        assert len(await _ticks(side)) == 1


async def test_a_line_that_has_changed_begins_now(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        hour = await _until(side)
        # What the old line would have had is no time of the new one's.
        await _attach(side, Schedule("hourly", "30 * * * *", "UTC"))
        await side.sweep()
        assert await _ticks(side) == []
        side.clock.advance(30 * _MINUTE)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour + 30 * _MINUTE, InvocationStatus.RUNNING)]


async def test_a_line_that_has_changed_does_not_wait_for_the_old_ones_next_time(
    store: Store,
) -> None:
    async with store.sidecar() as side:
        await _attach(side, Schedule("hourly", "0 0 29 2 *", "UTC"))
        await _attach(side, HOURLY)
        hour = await _until(side)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.RUNNING)]


async def test_a_time_zone_that_has_changed_begins_now(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        hour = await _until(side)
        await _attach(side, Schedule("hourly", "0 * * * *", "Asia/Kolkata"))
        side.clock.advance(30 * _MINUTE)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour + 30 * _MINUTE, InvocationStatus.RUNNING)]


async def test_a_tick_that_is_queued_keeps_the_next_away_and_one_that_runs_does_not(
    store: Store,
) -> None:
    async with store.sidecar(UNENDING) as side:
        await _attach(side, HOURLY, free=1)
        first = await _until(side)
        await side.sweep()  # takes the one place
        second = await _until(side)
        await side.sweep()  # is queued
        await _until(side)
        await side.sweep()  # is kept away
        assert await _ticks(side) == [
            ("hourly", first, InvocationStatus.RUNNING),
            ("hourly", second, InvocationStatus.QUEUED),
        ]
        await side.finish(side.held[0])
        fourth = await _until(side)
        await side.sweep()
        assert [(at, status) for _, at, status in await _ticks(side)] == [
            (first, InvocationStatus.COMPLETED),
            (second, InvocationStatus.RUNNING),
            (fourth, InvocationStatus.QUEUED),
        ]


async def test_a_tick_that_was_given_back_is_queued_again(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        first = await _until(side)
        await side.sweep()
        _leave(side)
        await side.finish(side.held[0], OutcomeStatus.RELEASED)
        await _until(side)
        await side.sweep()
        assert await _ticks(side) == [("hourly", first, InvocationStatus.QUEUED)]
        await _attach(side, HOURLY)
        assert side.held == [Lease(side.held[0].invocation_id, n) for n in (1, 2)]


async def test_a_schedule_that_nobody_declares_any_more_ends_with_its_next_tick(
    store: Store,
) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        _leave(side)
        await side.attach("new", takes=MESSAGES)
        await side.sweep()
        assert await _kept(side) == 1  # its time has not come
        await _until(side, second=1)
        await side.sweep()
        assert await _kept(side) == 1  # who declares it may be about to come back
        side.clock.advance(TERMS.lease_ms)
        await side.sweep()
        assert await _kept(side) == 0
        assert await _ticks(side) == []


async def test_what_is_queued_of_a_schedule_that_ends_is_unhandled(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        _leave(side)
        hour = await _until(side)
        await side.sweep()
        await side.attach("new", takes=MESSAGES)
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.QUEUED)]
        await _until(side, second=TERMS.lease_ms // 1_000)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.UNHANDLED)]
        assert await _kept(side) == 0


async def test_a_process_that_comes_back_within_a_term_has_its_tick(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)
        _leave(side)
        await side.attach("other", takes=MESSAGES)
        hour = await _until(side)
        await side.sweep()
        await _attach(side, HOURLY)
        await side.sweep()
        assert await _ticks(side) == [("hourly", hour, InvocationStatus.RUNNING)]


HALF = Schedule("hourly", "30 * * * *", "UTC")


async def _in_force(side: Sidecar) -> list[tuple[str, int]]:
    """Returns line and next time of each schedule, as the operator is shown them."""
    found = await side.read(inspecting.schedules, side.app)
    return [(one.cron, one.next_ms) for one in found]


async def _goes(side: Sidecar, key: str) -> None:
    """Lets a process go, and its lease end while the others beat."""
    gone = (await side.do(leases.attach, app=side.app, key=key, claimed=())).process
    side.slots.detach(gone, side)
    await _beating(side, TERMS.lease_ms // 1_000 + 1)


async def _beating(side: Sidecar, seconds: int) -> None:
    """Lets time pass with beats and sweeps as punctual as they should be."""
    for _ in range(seconds):
        side.clock.advance(1_000)
        for process in side.slots.processes(side.app):
            await side.beat(process)
        await side.sweep()


async def test_the_line_of_who_is_left_comes_into_force_without_what_was_missed(
    store: Store,
) -> None:
    async with store.sidecar() as side:
        hour = await _until(side, second=60)
        await _attach(side, HOURLY, key="old")
        await _attach(side, HALF, key="new")
        assert await _in_force(side) == [(HALF.cron, hour + 30 * _MINUTE)]
        # The hour of the old line comes and goes while the other one is in force.
        side.clock.advance(65 * _MINUTE)
        await side.sweep()
        assert [at for _, at, _ in await _ticks(side)] == [hour + 30 * _MINUTE]
        await _goes(side, "new")
        assert await _in_force(side) == [(HOURLY.cron, hour + 2 * _HOUR)]
        await side.sweep()
        assert len(await _ticks(side)) == 1
        await _until(side)
        await side.sweep()
        assert [at for _, at, _ in await _ticks(side)][1:] == [hour + 2 * _HOUR]


async def test_the_line_of_who_is_left_does_not_wait_for_one_that_seldom_comes(
    store: Store,
) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY, key="old")
        await _attach(side, Schedule("hourly", "0 0 29 2 *", "UTC"), key="new")
        await _goes(side, "new")
        assert [line for line, _ in await _in_force(side)] == [HOURLY.cron]


async def test_a_line_stays_in_force_while_one_is_left_who_declares_it(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HALF, key="new")
        await _attach(side, HALF, key="newer")
        await _attach(side, HOURLY, key="old")
        await _attach(side, HALF, key="newest")
        await _goes(side, "newest")
        await _goes(side, "newer")
        assert [line for line, _ in await _in_force(side)] == [HALF.cron]
        await _goes(side, "new")
        assert [line for line, _ in await _in_force(side)] == [HOURLY.cron]


async def test_a_line_stays_in_force_while_who_declares_it_may_come_back(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY, key="old")
        await _attach(side, HALF, key="new")
        side.slots.detach(side.slots.processes(side.app)[-1], side)
        await _beating(side, TERMS.lease_ms // 1_000 - 5)
        assert [line for line, _ in await _in_force(side)] == [HALF.cron]
        await _beating(side, 7)
        assert [line for line, _ in await _in_force(side)] == [HOURLY.cron]


async def test_of_the_lines_that_are_left_the_latest_comes_into_force(store: Store) -> None:
    quarter = Schedule("hourly", "15 * * * *", "UTC")
    async with store.sidecar() as side:
        for line, key in ((HOURLY, "first"), (quarter, "second"), (HALF, "third")):
            await _attach(side, line, key=key)
        await _goes(side, "third")
        assert [line for line, _ in await _in_force(side)] == [quarter.cron]


async def test_schedules_of_two_apps_share_a_name(store: Store) -> None:
    async with store.sidecar() as side:
        other = await side.of_app("other")
        hour = await _until(side)
        await _attach(side, HOURLY)
        await _attach(other, Schedule("hourly", "30 * * * *", "UTC"))
        for _ in range(2):
            side.clock.advance(30 * _MINUTE)
            await side.sweep()
        assert [at for _, at, _ in await _ticks(side)] == [hour + 30 * _MINUTE, hour + _HOUR]


async def test_more_schedules_than_one_sweep_takes_have_their_ticks_with_the_next(
    store: Store,
) -> None:
    many = tuple(Schedule(f"s{n:03}", "0 * * * *", "UTC") for n in range(600))
    async with store.sidecar() as side:
        await _attach(side, *many, free=1_000)
        await _until(side)
        await side.sweep()
        assert len(await _ticks(side)) == 500
        await side.sweep()
        await side.sweep()
        assert sorted(name for name, _, _ in await _ticks(side)) == [one.name for one in many]


async def test_what_declares_nothing_new_writes_nothing(store: Store) -> None:
    async with store.sidecar() as side:
        await _attach(side, HOURLY)

        def again(unit: Any) -> bool:
            schedules.declare(unit, side.app, [HOURLY])
            return bool(unit.wrote)

        assert await side.do(again) is False


async def test_two_sidecars_make_one_tick(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(postgres_store.sidecar(UNENDING)) for _ in range(2)
        ]
        for number, side in enumerate(sides):
            await _attach(side, HOURLY, key=f"p{number}")
        hours = []
        for _ in range(10):
            hours.append(await _until(sides[0]))
            await asyncio.gather(*(side.sweep() for side in sides for _ in range(5)))
        found = await _ticks(sides[0])
        assert [at for _, at, _ in found] == hours
        assert {status for _, _, status in found} == {InvocationStatus.RUNNING}
        assert len(sides[0].held) + len(sides[1].held) == len(hours)


async def test_a_sidecar_leaves_the_line_in_force_that_is_declared_at_the_other(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(postgres_store.sidecar()) for _ in range(2)
        ]
        await _attach(first, HOURLY, key="old")
        await _attach(second, HALF, key="new")
        for _ in range(20):
            first.clock.advance(1_000)
            for side in (first, second):
                for process in side.slots.processes(side.app):
                    await side.beat(process)
                await side.sweep()
        assert [line for line, _ in await _in_force(first)] == [HALF.cron]


async def test_a_sidecar_whose_processes_do_not_declare_it_leaves_it_to_the_other(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(postgres_store.sidecar()) for _ in range(2)
        ]
        await first.attach("old", takes=MESSAGES)
        await _attach(second, HOURLY, key="new")
        hour = await _until(first)
        await first.sweep()
        await second.sweep()
        assert await _ticks(first) == [("hourly", hour, InvocationStatus.RUNNING)]
        assert len(second.held) == 1

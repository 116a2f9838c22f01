"""Schedules on the wire: ticks of what processes declare, one for each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import admin_service_pb2, handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    PATIENT,
    BareHandler,
    Person,
    Running,
    SidecarProcess,
    refusal_of,
    refused,
    running_sidecar,
)
from tests.support.work import acknowledged, invocations, of, reply, works

# Time comes by the clock alone.
CLOCK: dict[str, Any] = {"test_clock": True, "timing": PATIENT}
FAILED = handler_service_pb2.OUTCOME_STATUS_FAILED
SCHEDULE = types_pb2.INVOCATION_KIND_SCHEDULE
RUNNING = types_pb2.INVOCATION_STATUS_RUNNING
QUEUED = types_pb2.INVOCATION_STATUS_QUEUED
DAY = timedelta(days=1)
# Half a day from now: no tick is due while the clock is not put forward.
HOUR = (datetime.now(UTC).hour + 12) % 24
CRON = f"0 {HOUR} * * *"


def nightly(
    cron: str = CRON, timezone: str = "", name: str = "nightly"
) -> handler_service_pb2.Declarations:
    """Declares messages and one schedule."""
    schedule = handler_service_pb2.ScheduleDeclaration(name=name, cron=cron, timezone=timezone)
    return handler_service_pb2.Declarations(message=True, schedules=[schedule])


async def advance(running: Running, by: timedelta) -> datetime:
    """Puts the clock forward; returns the time that the sidecar says it is."""
    span = Duration()
    span.FromTimedelta(by)
    async with Person(running) as operator:
        answer = await operator.admin.AdvanceClock(
            admin_service_pb2.AdvanceClockRequest(by=span), metadata=operator.metadata, timeout=20
        )
    moment: datetime = answer.time.ToDatetime(tzinfo=UTC)
    return moment


def last_time(now: datetime) -> datetime:
    """Returns the latest time that the schedule has."""
    today = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return today if today <= now else today - DAY


async def listed(running: Running) -> Sequence[admin_service_pb2.InvocationInfo]:
    """Returns the ticks as the operator sees them, the oldest first."""
    async with Person(running) as operator:
        return (await invocations(operator, kind=SCHEDULE, page_size=100))[::-1]


def times(handlers: Sequence[BareHandler]) -> list[datetime]:
    """Returns the times of the ticks that handlers were given."""
    found = [work for handler in handlers for work in works(handler)]
    return sorted(work.schedule.tick_time.ToDatetime(tzinfo=UTC) for work in found)


async def test_a_tick_says_its_schedule_and_its_time_and_has_no_session(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, BareHandler(running) as handler:
        await handler.attach(declarations=nightly())
        now = await advance(running, DAY)
        work = await handler.work()
        assert work.WhichOneof("kind") == "schedule"
        assert work.schedule.name == "nightly"
        assert work.schedule.tick_time.ToDatetime(tzinfo=UTC) == last_time(now)
        assert work.HasField("deadline")
        assert not work.HasField("session")
        assert not work.HasField("user")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "NO_REPLY_TARGET"):
            await handler.sessions.Reply(reply(work, "hello"), metadata=handler.metadata)
        await handler.finish(work)
        ack = await acknowledged(handler, work)
        assert ack.status == types_pb2.INVOCATION_STATUS_COMPLETED


async def test_the_apps_owner_is_the_user_of_a_tick(tmp_path: Path) -> None:
    owned = {"support": {"owner": "terminal:ada"}}
    async with running_sidecar(tmp_path, **CLOCK, apps=owned) as running:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=nightly())
            await advance(running, DAY)
            assert (await handler.work()).user.user_id


async def test_two_processes_share_the_ticks_each_comes_once(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running:
        async with BareHandler(running) as first, BareHandler(running) as second:
            both = (first, second)
            for handler in both:
                await handler.attach(declarations=nightly())
            expected: list[datetime] = []
            for _ in range(4):
                expected.append(last_time(await advance(running, DAY)))
                await eventually(lambda: len(times(both)) >= len(expected))
            assert times(both) == expected
            assert len(await listed(running)) == 4


async def test_the_latest_of_what_was_missed_while_the_sidecar_was_down_fires(
    tmp_path: Path,
) -> None:
    sidecar = SidecarProcess(tmp_path, environment={"CAPSULE_TEST_CLOCK": "1"})
    async with sidecar:
        running = await sidecar.start()
        async with BareHandler(running) as handler:
            await handler.attach(declarations=nightly())
        await sidecar.kill()
        running = await sidecar.start()
        # All at once, as if it had been down: nothing sweeps between.
        now = await advance(running, 5 * DAY)
        async with BareHandler(running) as other, BareHandler(running) as handler:
            # Who comes back first and declares something else does not end it.
            await other.attach()
            assert [info.status for info in await listed(running)] == [QUEUED]
            await handler.attach(declarations=nightly())
            work = await handler.work()
            assert work.schedule.tick_time.ToDatetime(tzinfo=UTC) == last_time(now)
            await handler.finish(work)
            await acknowledged(handler, work)
            assert len(await listed(running)) == 1


async def test_a_restart_neither_loses_a_tick_nor_doubles_one(tmp_path: Path) -> None:
    process_id = "8a5a1f0e-6c1c-4c53-9d2b-0c1f0f6f3a11"
    expected: list[datetime] = []
    for _ in range(3):
        # The clock stands where it is in truth again: what has fired lies in the future.
        async with running_sidecar(tmp_path, **CLOCK) as running:
            async with BareHandler(running, process_id=process_id) as handler:
                await handler.attach(declarations=nightly())
                now = await advance(running, DAY * (len(expected) + 1))
                work = await handler.work()
                await handler.finish(work)
                await acknowledged(handler, work)
                expected.append(last_time(now))
                assert times([handler]) == expected[-1:]
                assert len(await listed(running)) == len(expected)
    assert len(set(expected)) == 3


async def test_a_line_that_has_changed_begins_with_its_own_next_time(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=nightly("0 3 1 1 *"))
        async with BareHandler(running) as handler:
            await handler.attach(declarations=nightly(CRON, "Asia/Tokyo"))
            now = await advance(running, DAY)
            work = await handler.work()
            at = work.schedule.tick_time.ToDatetime(tzinfo=UTC)
            assert (at.hour, at.minute) == ((HOUR - 9) % 24, 0)
            assert now - DAY < at <= now


async def test_a_schedule_that_is_declared_no_more_has_no_tick_and_begins_anew_later(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running:
        async with BareHandler(running) as old:
            await old.attach(declarations=nightly())
        async with BareHandler(running) as new:
            await new.attach()
            await advance(running, DAY)
            # Were it still kept, this would find a tick that was missed.
            async with BareHandler(running) as again:
                await again.attach(declarations=nightly())
                await advance(running, timedelta(seconds=1))
                assert await listed(running) == []
                await advance(running, DAY)
                await again.work()
                assert len(await listed(running)) == 1


async def test_a_queued_tick_keeps_the_next_away_and_a_running_one_does_not(
    tmp_path: Path,
) -> None:
    unhurried = PATIENT | {"turn_deadline": 30 * 86_400.0}
    async with running_sidecar(tmp_path, test_clock=True, timing=unhurried) as running:
        async with BareHandler(running) as handler:
            await handler.attach(declarations=nightly(), concurrency=1)
            first = last_time(await advance(running, DAY))
            work = await handler.work()
            second = last_time(await advance(running, DAY))
            await advance(running, DAY)
            assert [info.status for info in await listed(running)] == [RUNNING, QUEUED]
            await handler.finish(work)
            await handler.work(2)
            assert times([handler]) == [first, second]


async def test_a_tick_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, BareHandler(running) as handler:
        await handler.attach(declarations=nightly())
        await advance(running, DAY)
        work = await handler.work()
        await handler.finish(work, FAILED, error_type="ValueError")
        ack = await acknowledged(handler, work)
        assert ack.status == types_pb2.INVOCATION_STATUS_FAILED
        await advance(running, timedelta(minutes=10))
        (info,) = await listed(running)
        assert (info.attempt, info.error_type) == (1, "ValueError")


async def test_a_tick_whose_process_is_lost_is_delivered_again_as_the_same(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, BareHandler(running) as handler:
        await handler.attach(declarations=nightly())
        await advance(running, DAY)
        lost = await handler.work()
        await handler.drop()
        async with BareHandler(running) as other:
            await other.attach(declarations=nightly())
            sidecar = running.sidecar
            assert sidecar is not None
            await eventually(lambda: sidecar.state.handlers == 1)
            await advance(running, timedelta(seconds=31))
            work = await other.work()
            assert of(work) == {"invocation_id": lost.invocation_id, "attempt": 2}
            assert work.schedule == lost.schedule


@pytest.mark.parametrize(
    ("declared", "field", "says"),
    [
        (nightly("* * * *"), "[0].cron", "five fields"),
        (nightly("61 * * * *"), "[0].cron", "Bad minute"),
        (nightly("0 0 30 2 *"), "[0].cron", "0 0 30 2 *"),
        (nightly(timezone="Mars/Olympus"), "[0].timezone", "Mars/Olympus"),
        (nightly(name=""), "[0].name", "1 to 128 characters"),
    ],
)
async def test_a_schedule_that_can_have_no_tick_refuses_the_attach(
    tmp_path: Path, declared: handler_service_pb2.Declarations, field: str, says: str
) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        attaching = asyncio.create_task(handler.attach(declarations=declared))
        error = await eventually(lambda: handler.error, timeout=15, message="the refusal")
        assert error is not None
        attaching.cancel()
        await asyncio.gather(attaching, return_exceptions=True)
        refusal = refusal_of(error)
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT",
        )  # fmt: skip
        assert refusal.fields == [f"hello.declarations.schedules{field}"]
        assert says in refusal.message

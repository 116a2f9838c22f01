"""AdvanceClock: a sidecar for tests whose time can be put forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.files import Mover
from tests.support.http import Browser
from tests.support.postgres import postgres_server
from tests.support.sidecar import (
    BareHandler,
    Person,
    Running,
    SidecarProcess,
    refused,
    running_sidecar,
)
from tests.support.turns import turn, work_of
from tests.support.work import invocations, passed, works

CLOCK: dict[str, Any] = {"test_clock": True}
# As real as the defaults: nothing of what is waited for here comes by itself.
SLOW: dict[str, Any] = CLOCK | {"timing": {}}


async def advance(person: Person, **by: float) -> datetime:
    """Puts the clock forward; returns the time that the sidecar says it is."""
    span = Duration()
    span.FromTimedelta(timedelta(**by))
    answer = await person.admin.AdvanceClock(
        pb.AdvanceClockRequest(by=span), metadata=person.metadata, timeout=20
    )
    moment: datetime = answer.time.ToDatetime(tzinfo=UTC)
    return moment


async def test_without_the_setting_the_clock_stands(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED") as refusal:
            await advance(ada, seconds=1)
        assert "CAPSULE_TEST_CLOCK=1" in refusal.message


async def test_the_variable_lets_the_clock_be_moved(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path, environment={"CAPSULE_TEST_CLOCK": "1"})
    async with process:
        running = await process.start()
        async with Person(running) as ada:
            moment = await advance(ada, hours=3)
            ahead = moment - datetime.now(UTC)
            assert timedelta(hours=2, minutes=58) < ahead <= timedelta(hours=3)


async def test_only_the_operator_moves_the_clock(tmp_path: Path) -> None:
    apps = {"support": {"token": "a-handlers-token"}}
    async with running_sidecar(tmp_path, **CLOCK, apps=apps) as running:
        async with Person(running, token="a-handlers-token") as ada:
            with refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"):
                await advance(ada, seconds=1)


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, 11 * 366 * 86_400])
async def test_a_time_that_is_none_or_too_long_is_refused(tmp_path: Path, seconds: float) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, Person(running) as ada:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
            await advance(ada, seconds=seconds)
        assert refusal.fields == ["by"]


async def test_what_is_written_afterwards_carries_the_new_time(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, Person(running) as ada:
        session = await ada.open()
        before = (await ada.say(session, "now")).message.create_time.ToDatetime()
        await advance(ada, days=400)
        await advance(ada, days=100)
        after = (await ada.say(session, "later")).message.create_time.ToDatetime()
        assert timedelta(days=500) <= after - before < timedelta(days=500, minutes=1)


async def test_a_prompt_expires_when_its_time_is_put_forward(tmp_path: Path) -> None:
    async with turn(tmp_path, **SLOW) as desk:
        await desk.command("prompt_approval", message="Sure?", timeout=Duration(seconds=300))

        async def status() -> int:
            items = await desk.person.timeline(desk.session)
            return next((i.prompt.status for i in items if i.HasField("prompt")), 0)

        await eventually(status)
        await advance(desk.person, seconds=290)
        assert await status() == types_pb2.PROMPT_STATUS_OPEN
        await advance(desk.person, seconds=11)
        assert await status() == types_pb2.PROMPT_STATUS_EXPIRED


async def test_a_turn_meets_its_deadline_when_the_time_is_put_forward(tmp_path: Path) -> None:
    async with turn(tmp_path, **SLOW) as desk:
        await advance(desk.person, minutes=11)
        cancel = (await desk.handler.gets("cancel")).cancel
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_DEADLINE
        await advance(desk.person, seconds=11)  # it did not end in its grace
        (found,) = await invocations(desk.person, kind=types_pb2.INVOCATION_KIND_MESSAGE)
        assert found.reason == "DEADLINE"


async def test_leases_of_processes_that_beat_outlive_any_time(tmp_path: Path) -> None:
    async with turn(tmp_path, **SLOW) as desk, BareHandler(desk.running) as other:
        await other.attach()
        for _ in range(5):
            await advance(desk.person, minutes=1)
        assert works(other) == []
        (found,) = await invocations(desk.person, kind=types_pb2.INVOCATION_KIND_MESSAGE)
        assert (found.status, found.attempt) == (types_pb2.INVOCATION_STATUS_RUNNING, 1)


async def test_the_lease_of_a_detached_process_ends_and_its_turn_goes_on(tmp_path: Path) -> None:
    async with turn(tmp_path, **SLOW) as desk, BareHandler(desk.running) as other:
        await other.attach()
        await desk.handler.drop()
        await eventually(lambda: _attached(desk.running) == 1)
        await advance(desk.person, seconds=16)
        work = await work_of(other, desk.work.invocation_id)
        assert work.attempt == 2


async def test_the_lease_of_a_process_that_does_not_beat_ends(tmp_path: Path) -> None:
    timing = {"beat_interval": 0.1, "fresh_beat": 2.0, "lease_term": 60.0}
    async with running_sidecar(tmp_path, **CLOCK, timing=timing) as running:
        async with Person(running) as ada, BareHandler(running) as frozen:
            await frozen.attach()
            sent = await ada.say(await ada.open(), "hello")
            await work_of(frozen, sent.invocation_id)
            frozen.fall_silent()
            async with BareHandler(running) as other:
                await other.attach()
                await passed(2.5)
                await advance(ada, seconds=61)
                assert (await work_of(other, sent.invocation_id)).attempt == 2


async def test_a_lost_attempt_counts_as_lost_however_far_the_time_is_put(tmp_path: Path) -> None:
    """A sweep that looked late would pardon it, and give every lease a new term."""
    async with turn(tmp_path, **SLOW) as desk:
        handler = desk.handler
        for attempt in (1, 2, 3):
            await work_of(handler, desk.work.invocation_id)
            await handler.drop()
            await eventually(lambda: _attached(desk.running) == 0)
            await advance(desk.person, minutes=1)
            if attempt < 3:
                handler = BareHandler(desk.running)
                await handler.attach()
                await work_of(handler, desk.work.invocation_id)
        (found,) = await invocations(desk.person, kind=types_pb2.INVOCATION_KIND_MESSAGE)
        assert found.reason == "ATTEMPTS_EXHAUSTED"


@pytest.mark.deadline(120)
async def test_the_clock_of_a_server_is_put_forward_for_this_sidecar_alone(tmp_path: Path) -> None:
    with postgres_server() as url:
        storage = {"storage": {"url": url}}
        async with (
            running_sidecar(tmp_path / "one", **CLOCK, **storage) as ahead,
            running_sidecar(tmp_path / "two", **storage) as running,
            Person(ahead) as ada,
            Person(running) as ben,
        ):
            session, other = await ada.open(), await ben.open()
            await advance(ada, days=2)
            late = (await ada.say(session, "late")).message.create_time.ToDatetime()
            now = (await ben.say(other, "now")).message.create_time.ToDatetime()
            assert timedelta(days=1, hours=23) < late - now <= timedelta(days=2)


async def test_a_files_address_is_over_when_its_time_is_put_forward(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, Person(running) as ada:
        file = await Mover(ada).up(b"data", "notes.txt")
        session = await ada.open()
        await ada.say(session, "", attachments=[file.file_id])  # else it is removed after a day
        async with httpx.AsyncClient(trust_env=False) as http:
            await advance(ada, days=6)
            assert (await http.get(file.url)).status_code == 200
            await advance(ada, days=2)
            assert (await http.get(file.url)).status_code == 403
            items = await ada.timeline(session)
            (anew,) = items[-1].message.attachments
            assert (await http.get(anew.url)).status_code == 200


async def test_a_file_that_is_not_used_is_removed_when_its_time_is_put_forward(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running, Person(running) as ada:
        mover = Mover(ada)
        file = await mover.up(b"data", "notes.txt")
        await advance(ada, hours=23)
        assert (await mover.get(file.file_id)).size == 4
        await advance(ada, hours=2)

        async def gone() -> bool:
            try:
                await mover.get(file.file_id)
            except grpc.aio.AioRpcError as error:
                return error.code() == grpc.StatusCode.NOT_FOUND
            return False

        await eventually(gone)


async def test_a_sign_in_that_is_not_used_ends_when_its_time_is_put_forward(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, **CLOCK) as running:
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            async with Browser(running) as browser:
                await browser.sign_in()
                await advance(ada, days=89)
                assert (await browser.get("/sessions")).status_code == 200
                await advance(ada, days=91)
                assert (await browser.get("/sessions")).status_code == 401


def _attached(running: Running) -> int:
    assert running.sidecar is not None
    return running.sidecar.state.handlers

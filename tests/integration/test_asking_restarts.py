"""What is asked outside of a handler, over restarts of the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import capsule_client as capsule
from capsule_client import _asking, tasks
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeLine, FakeSidecar, status
from tests.support.sidecar import Person, Running, SidecarProcess
from tests.support.work import ended

pytestmark = pytest.mark.deadline(120)


@asynccontextmanager
async def attached(home: Path) -> AsyncIterator[tuple[SidecarProcess, capsule.App]]:
    """A sidecar that can be killed, and an app that the test attaches."""
    async with SidecarProcess(home) as process:
        running = await process.start()
        yield process, capsule.App("support", address=running.address, token=running.token)


async def test_what_was_given_up_while_the_sidecar_was_away_is_not_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_asking, "_APP_TIMEOUT", 1.0)
    async with attached(tmp_path) as (process, app):
        ran: list[int] = []
        entries = app.collection("entries", scope="app")

        @app.task()
        async def charge(session: capsule.Session, order: int) -> None:
            ran.append(order)

        async with app.attached():
            await process.kill()
            with pytest.raises(capsule.Unavailable):
                await charge.submit(order=1)
            with pytest.raises(capsule.Unavailable, match="not sent, nor will it be"):
                await charge.submit(order=2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await charge.submit(order=3)
            with pytest.raises(capsule.Unavailable, match="not sent, nor will it be"):
                await entries.insert_one({"order": 4})
            waiting = asyncio.create_task(charge.submit(order=5))
            monkeypatch.setattr(_asking, "_APP_TIMEOUT", 60.0)
            patient = asyncio.create_task(entries.insert_one({"order": 6}))
            await asyncio.wait({waiting}, timeout=0.1)
            waiting.cancel()
            await process.start()
            await patient
            await (await charge.submit(order=7)).result(30)
            assert await charge.count() == 1
            assert [one["order"] async for one in entries.find()] == [6]
        assert ran == [7]


async def test_what_was_sent_and_given_up_says_so_and_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_asking, "_APP_TIMEOUT", 3.0)
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        given_up: list[bool] = []

        @app.task()
        async def charge(session: capsule.Session) -> None: ...

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            reply = asyncio.create_task(session.reply("a turn's own promise holds"))
            await eventually(lambda: "reply" in _requests(sidecar.line))
            reply.cancel()
            given_up.append(True)

        async with app.attached():
            line = await sidecar.attached()
            sidecar.answer_commands = False
            with pytest.raises(capsule.Unavailable, match="whether it was done") as told:
                await charge.submit()
            assert told.value.reason == "OUTCOME_UNKNOWN"
            with pytest.raises(capsule.Unavailable) as told:
                await charge.count()
            assert told.value.reason == ""
            work = sidecar.invoke()
            await eventually(lambda: given_up)
            assert line.kinds().count("submit_task") == 1
            sidecar.answer_commands = True
            line.cut()
            again = await sidecar.attached(2)
            await sidecar.outcome(work)  # which may have come by the first line
            await eventually(lambda: _requests(again) == ["reply"])
            assert sidecar.replies == ["a turn's own promise holds"]


async def test_a_result_is_waited_for_while_the_sidecar_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_asking, "_APP_TIMEOUT", 0.5)
    async with attached(tmp_path) as (process, app):
        go_on = asyncio.Event()

        @app.task()
        async def slow(session: capsule.Session) -> str:
            await go_on.wait()
            return "done"

        async with app.attached():
            monkeypatch.setattr(_asking, "_APP_TIMEOUT", 10.0)
            handle = await slow.submit()
            monkeypatch.setattr(_asking, "_APP_TIMEOUT", 0.5)
            waits = [asyncio.create_task(handle.result(timeout)) for timeout in (None, 100)]
            monkeypatch.setattr(tasks, "_GRACE", 0.0)
            await process.kill()
            with pytest.raises(capsule.Unavailable):
                await handle.status()
            with pytest.raises(TimeoutError, match="has not ended within"):
                await handle.result(0.2)
            assert not any(each.done() for each in waits)
            await process.start()
            go_on.set()
            async with asyncio.timeout(60):
                assert await asyncio.gather(*waits) == ["done", "done"]


async def test_a_wait_that_a_handler_left_running_outlives_a_restart(tmp_path: Path) -> None:
    async with attached(tmp_path) as (process, app):
        go_on = asyncio.Event()
        waits: list[asyncio.Task[str]] = []

        @app.task()
        async def slow(session: capsule.Session) -> str:
            await go_on.wait()
            return "done"

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            waits.append(asyncio.create_task((await slow.submit()).result()))
            await session.reply("it runs")

        async with app.attached():
            token = (tmp_path / "token").read_text().strip()
            async with Person(Running(f"127.0.0.1:{process.port}", tmp_path, token)) as ada:
                session = await ada.open()
                sent = await ada.say(session, "go")
                async with await ada.follow(session) as follow:
                    await ended(follow, sent.invocation_id)
            await process.kill()
            await process.start()
            go_on.set()
            async with asyncio.timeout(60):
                assert await waits[0] == "done"


async def test_what_an_attempt_left_running_that_was_superseded_is_refused() -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        refused: list[bool] = []
        kept: list[asyncio.Task[None]] = []

        @app.task()
        async def charge(session: capsule.Session) -> None: ...

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            ended = asyncio.Event()

            async def left() -> None:
                await ended.wait()
                with pytest.raises(capsule.Superseded):
                    await charge.submit()
                refused.append(True)

            kept.append(asyncio.create_task(left()))
            try:
                await asyncio.Event().wait()
            finally:
                asyncio.get_running_loop().call_later(0.05, ended.set)

        async with app.attached():
            line = await sidecar.attached()
            work = sidecar.invoke()
            await eventually(lambda: kept)
            sidecar.cancel(work, pb.CANCEL_REASON_SUPERSEDED)
            await eventually(lambda: refused)
            assert _requests(line) == []


async def test_a_result_is_asked_for_again_where_the_sidecar_could_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._outbox._TRIES", 1)
    monkeypatch.setattr(tasks, "_AGAIN", 0.01)
    async with FakeSidecar() as sidecar:
        away = status("UNAVAILABLE", "STORAGE_UNAVAILABLE")
        sidecar.refuse = lambda _: away
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.task()
        async def charge(session: capsule.Session) -> None: ...

        async with app.attached():
            line = await sidecar.attached()
            with pytest.raises(TimeoutError):
                await charge.handle("tsk_1").result(0.05)
            waits = asyncio.create_task(charge.handle("tsk_1").result())
            asked = len(line.commands())
            await eventually(lambda: len(line.commands()) > asked + 3)
            assert not waits.done()
        with pytest.raises(capsule.Unavailable) as told:
            await waits
        assert told.value.reason == "DETACHED"


async def test_what_is_sent_when_the_app_detaches_may_have_been_done() -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.task()
        async def charge(session: capsule.Session) -> None: ...

        async with app.attached(drain_timeout=0):
            line = await sidecar.attached()
            sidecar.answer_commands = False
            submitted = asyncio.create_task(charge.submit())
            counted = asyncio.create_task(charge.count())
            await eventually(lambda: len(_requests(line)) == 2)
        with pytest.raises(capsule.Unavailable, match="whether it was done") as told:
            await submitted
        assert told.value.reason == "OUTCOME_UNKNOWN"
        with pytest.raises(capsule.Unavailable, match="has detached") as told:
            await counted
        assert told.value.reason == "DETACHED"


async def test_a_command_that_is_given_up_between_two_tries_leaves_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sidecar answers UNAVAILABLE, and nobody waits for the next try."""
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_commands_in_flight = 1
        away = status("UNAVAILABLE", "STORAGE_UNAVAILABLE")
        sidecar.refuse = lambda _: away
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.task()
        async def charge(session: capsule.Session) -> None: ...

        async with app.attached():
            line = await sidecar.attached()
            for _ in range(3):
                monkeypatch.setattr(_asking, "_APP_TIMEOUT", 1.0)
                with pytest.raises(capsule.Unavailable):
                    await charge.submit()
            sidecar.refuse = lambda _: None
            monkeypatch.setattr(_asking, "_APP_TIMEOUT", 10.0)
            await charge.count()
            sent = {one.submit_task.request_id for one in line.commands("submit_task")}
            assert len(sent) == 3


def _requests(line: FakeLine) -> list[str]:
    return [one.WhichOneof("request") or "" for one in line.commands()]

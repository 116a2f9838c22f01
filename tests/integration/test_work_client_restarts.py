"""The Python client over restarts of the sidecar, in mid-turn."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import types_pb2
from tests.support.sidecar import Person, SidecarProcess
from tests.support.work import ended

pytestmark = pytest.mark.deadline(120)


async def test_a_turn_goes_on_over_a_killed_sidecar_and_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"  # it may start slowly
        process.environment["CAPSULE_TIMING__FRESH_BEAT"] = "20"
        running = await process.start()
        app = capsule.App("support", address=running.address, token=running.token)
        reached = {point: asyncio.Event() for point in ("first", "second")}
        go_on = {point: asyncio.Event() for point in ("first", "second")}
        attempts: list[int] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            attempts.append(session.attempt)
            session.data["kept"] = "in memory until the end"
            await session.reply("before")
            async with session.stream_reply() as out:
                for number in range(50):
                    await out.write(f"{number} ")
                await out.write("| ")
                reached["first"].set()
                await go_on["first"].wait()
                for number in range(50, 100):
                    await out.write(f"{number} ")
            reached["second"].set()
            await go_on["second"].wait()
            await session.reply("after")

        async with app.attached():
            async with Person(running) as ada:
                session = await ada.open()
                sent = await ada.say(session, "count")
                for point in ("first", "second"):
                    await asyncio.wait_for(reached[point].wait(), 30)
                    await process.kill()
                    go_on[point].set()  # it writes while nobody is there
                    await process.start()
                async with await ada.follow(session) as follow:
                    end = await ended(follow, sent.invocation_id, timeout=60)
                    assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED
                    assert end.attempts == 1
                    offsets = [event.offset for event in follow.events]
                    assert offsets == list(range(1, len(offsets) + 1))
                first = " ".join(map(str, range(50)))
                last = " ".join(map(str, range(50, 100)))
                counted = f"{first} | {last} "
                assert await ada.texts(session) == ["count", "before", counted, "after"]
                assert attempts == [1]


async def test_a_sidecar_that_ends_in_order_lets_the_turn_finish(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "30"
        running = await process.start()
        app = capsule.App("support", address=running.address, token=running.token)
        begun, go_on = asyncio.Event(), asyncio.Event()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            begun.set()
            await go_on.wait()
            await session.reply(f"answer to {msg.text}")

        async with app.attached(), Person(running) as ada:
            session = await ada.open()
            await ada.say(session, "one")
            await asyncio.wait_for(begun.wait(), 30)
            await ada.say(session, "two")
            end = asyncio.create_task(process.end(signal.SIGTERM))
            go_on.set()
            assert await end == 0
            await process.start()
            await ada.hears(session, "answer to two", timeout=60)
            assert await ada.texts(session) == ["one", "answer to one", "two", "answer to two"]


async def test_an_app_may_start_before_its_sidecar(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        running = await process.start()  # for its port and token
        await process.kill()
        app = capsule.App("support", address=running.address, token=running.token)
        booted = asyncio.Event()

        @app.boot()
        async def boot() -> None:
            booted.set()

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            await session.reply("here")

        serving = asyncio.create_task(app.serve())
        await process.start()
        async with Person(running) as ada:
            session = await ada.open()
            await ada.say(session, "hello")
            await ada.hears(session, "here", timeout=60)
            assert booted.is_set()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

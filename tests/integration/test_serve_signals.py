"""How `capsule-sidecar serve` ends, also where it cannot begin."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.support.programs import SIDECAR, running
from tests.support.sidecar import BareHandler, Person, SidecarProcess
from tests.support.work import works


@pytest.mark.deadline(120)
async def test_a_second_signal_ends_the_grace(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "300"
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            await ada.say(await ada.open(), "hello")
            await handler.work()
            end = asyncio.create_task(process.end(signal.SIGTERM))
            await handler.gets("drain")
            assert process.process is not None
            process.process.send_signal(signal.SIGTERM)
            assert await end == 0


@pytest.mark.deadline(120)
async def test_a_process_that_comes_within_the_grace_gets_nothing_new(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "300"
        running = await process.start()
        async with (
            Person(running) as ada,
            BareHandler(running) as handler,
            BareHandler(running) as late,
        ):
            await handler.attach()
            session, other = await ada.open(), await ada.open()
            await ada.say(session, "hello")
            work = await handler.work()
            end = asyncio.create_task(process.end(signal.SIGTERM))
            await handler.gets("drain")
            await ada.say(other, "waits for the next start")
            await late.attach()
            await late.gets("drain")
            await handler.finish(work)
            assert await end == 0
            assert works(late) == []


async def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        address = f"127.0.0.1:{other.getsockname()[1]}"
        command = [SIDECAR, "serve", "--home", str(tmp_path / "home")]
        command += ["--grpc", address, "--http", "127.0.0.1:0"]
        async with running(command) as program:
            assert await program.ends() == 1
        assert program.text.startswith(f"{address} is taken: something listens there already")
        assert program.text.count("\n") == 1

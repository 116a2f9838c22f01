"""Boot, work and shutdown: what a process does on its way in and out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar


def app_of(sidecar: FakeSidecar) -> capsule.App:
    return capsule.App("demo", address=sidecar.address, token=TOKEN, drain_timeout=5.0)


async def run(app: capsule.App) -> None:
    """Does what `App.run` does, in this loop."""
    await app._serve_until_signal(None, None)


async def test_work_waits_for_boot_and_shutdown_comes_last() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        order: list[str] = []
        invocations: list[pb.Invocation] = []

        @app.boot()
        async def boot() -> None:
            invocations.append(sidecar.invoke())
            stopped = sidecar.invoke("stopped")
            sidecar.cancel(stopped, pb.CANCEL_REASON_STOPPED)
            assert (await sidecar.outcome(stopped)).status == pb.OUTCOME_STATUS_CANCELLED
            order.append("booted")

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            order.append("turn")

        @app.shutdown()
        async def broken() -> None:
            raise ValueError

        @app.shutdown()
        async def shutdown() -> None:
            order.append("shut down")

        async with app.attached():
            await sidecar.outcome(invocations[0])
        assert order == ["booted", "turn", "shut down"]


async def test_work_that_waits_for_boot_is_held_through_a_loss_of_the_line() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        invocations: list[pb.Invocation] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None: ...

        @app.boot()
        async def boot() -> None:
            invocations.append(sidecar.invoke())
            stopped = sidecar.invoke("stopped")  # its end tells that the other one has come
            sidecar.cancel(stopped, pb.CANCEL_REASON_STOPPED)
            await sidecar.outcome(stopped)
            sidecar.line.cut()
            second = await sidecar.attached(2)
            keys = [(one.invocation_id, one.attempt) for one in second.hello.leases]
            assert (invocations[0].invocation_id, 1) in keys

        async with app.attached():
            outcome = await sidecar.outcome(invocations[0])
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED


async def test_a_boot_that_fails_gives_the_work_back() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        invocations: list[pb.Invocation] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None: ...

        @app.boot()
        async def boot() -> None:
            invocations.append(sidecar.invoke())
            invocations.append(sidecar.invoke())
            await asyncio.sleep(0.05)
            raise LookupError("no model")

        with pytest.raises(LookupError):
            await app.serve()
        for one in invocations:
            assert (await sidecar.outcome(one)).status == pb.OUTCOME_STATUS_RELEASED


async def test_a_boot_that_hangs_is_cancelled_when_the_process_is_asked_to_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[str] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None: ...

        @app.boot()
        async def hangs() -> None:
            seen.append("booting")
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

        @app.boot()
        async def later() -> None:
            seen.append("never")

        @app.shutdown()
        async def shutdown() -> None:
            seen.append("never")

        serving = asyncio.create_task(run(app))
        await eventually(lambda: seen == ["booting"])
        given = sidecar.invoke()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)
        assert seen == ["booting", "cancelled"]
        assert (await sidecar.outcome(given)).status == pb.OUTCOME_STATUS_RELEASED
        assert "asked to end while a boot handler ran" in caplog.text


async def test_a_boot_that_times_out_by_itself_fails() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)

        @app.boot()
        async def boot() -> None:
            raise TimeoutError("the model is not there")

        with pytest.raises(TimeoutError, match="the model"):
            await app.serve()


async def test_a_shutdown_that_hangs_is_given_up_and_the_others_still_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_client._attachment._SHUTDOWN_TIMEOUT", 0.2)
    caplog.set_level(logging.WARNING, "capsule")
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[str] = []

        @app.shutdown()
        async def hangs() -> None:
            await asyncio.Event().wait()

        @app.shutdown()
        async def next_one() -> None:
            seen.append("ran")

        async with asyncio.timeout(10), app.attached():
            await sidecar.attached()
        assert seen == ["ran"]
        assert "a shutdown handler had not returned in time" in caplog.text


async def test_a_second_signal_ends_a_shutdown_that_hangs() -> None:
    async with FakeSidecar() as sidecar:
        app = app_of(sidecar)
        seen: list[str] = []

        @app.boot()
        async def boot() -> None:
            seen.append("booted")

        @app.shutdown()
        async def hangs() -> None:
            seen.append("shutting down")
            await asyncio.Event().wait()

        serving = asyncio.create_task(run(app))
        await eventually(lambda: seen == ["booted"])
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: seen == ["booted", "shutting down"])
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)

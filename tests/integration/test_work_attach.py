"""Attach: who is let in, who is replaced, and what becomes of the leases a process names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    PATIENT,
    BareHandler,
    Person,
    Refusal,
    refusal_of,
    request_id,
    running_sidecar,
    write_to,
)
from tests.support.work import acknowledged, lease, say, works


async def refusal_for(handler: BareHandler, *frames: handler_service_pb2.HandlerFrame) -> Refusal:
    """Attaches with these frames instead of a proper hello; returns how it was refused."""
    call = handler.handlers.Attach(metadata=handler.metadata, timeout=15)
    await write_to(call, handler_service_pb2.AttachRequest(frames=frames))
    try:
        while await call.read() is not grpc.aio.EOF:
            pass  # a welcome may come first
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the line was not refused")


def hello(**fields: Any) -> handler_service_pb2.HandlerFrame:
    """Returns a hello with a few fields of its own."""
    given = {"app": "support", "protocol_version": "1", "process_id": request_id()} | fields
    return handler_service_pb2.HandlerFrame(hello=handler_service_pb2.Hello(**given))


@pytest.mark.parametrize(("version", "upgrade"), [("0", "client"), ("2", "sidecar")])
async def test_a_version_that_does_not_fit_is_refused_with_what_to_upgrade(
    tmp_path: Path, version: str, upgrade: str
) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        refusal = await refusal_for(
            handler,
            hello(protocol_version=version, client_name="capsule-client-go", client_version="3.1"),
        )
    assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "INCOMPATIBLE_VERSION"
    assert "capsule-client-go 3.1" in refusal.message
    assert refusal.message.endswith(f"upgrade the {upgrade}")


async def test_a_second_hello_ends_the_line(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        refusal = await refusal_for(handler, hello(), hello())
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert "once" in refusal.message


async def test_the_welcome_names_the_limits_that_are_configured(tmp_path: Path) -> None:
    limits = {"commands_in_flight": 7, "stream_window_bytes": 4_096}
    async with running_sidecar(tmp_path, limits=limits) as running:
        async with BareHandler(running) as handler:
            welcome = await handler.attach()
    assert welcome.limits.max_commands_in_flight == 7
    assert welcome.limits.stream_window_bytes == 4_096
    assert welcome.limits.max_text_bytes == 256 * 1024
    assert welcome.limits.lease_term.ToMilliseconds() == 1_500
    assert welcome.limits.beat_interval.ToMilliseconds() == 200


async def test_a_second_line_of_a_process_ends_the_first_and_keeps_its_work(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as first:
            await first.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            work = await first.work()
            async with BareHandler(running, process_id=first.process_id.upper()) as second:
                welcome = await second.attach(leases=[lease(work)])
                assert list(welcome.kept) == [lease(work)]
                error = await eventually(lambda: first.error, timeout=15)
                assert error is not None
                refusal = refusal_of(error)
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLACED")
                await say(second, work, "from the second line")
                await second.finish(work)
                await acknowledged(second, work)
                assert works(second) == []
        assert await ada.texts(session) == ["hello", "from the second line"]


async def test_a_lease_that_the_hello_omits_is_delivered_again_under_its_attempt(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            sessions = [await ada.open() for _ in range(2)]
            for number, session in enumerate(sessions):
                await ada.say(session, f"question {number}")
            known, forgotten = await handler.work(1), await handler.work(2)
            await handler.drop()
            handler.frames.clear()
            stranger = handler_service_pb2.Lease(invocation_id=known.invocation_id, attempt=7)
            welcome = await handler.attach(leases=[lease(known), stranger])
            assert list(welcome.kept) == [lease(known)]
            assert list(welcome.superseded) == [stranger]
            again = await handler.work()
            assert again == forgotten
            for work in (known, again):
                await handler.finish(work)
                await acknowledged(handler, work)
            assert works(handler) == [again]


async def test_a_lease_that_was_lost_meanwhile_is_named_superseded(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as lost, BareHandler(running) as other:
            await lost.attach()
            await ada.say(await ada.open(), "hello")
            work = await lost.work()
            await lost.drop()
            await other.attach()
            assert (await other.work()).attempt == 2
            lost.frames.clear()
            welcome = await lost.attach(leases=[lease(work)])
            assert list(welcome.superseded) == [lease(work)]
            assert list(welcome.kept) == []
            assert works(lost) == []


async def test_what_is_kept_counts_towards_the_concurrency(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(concurrency=1)
            await ada.say(await ada.open(), "one")
            first = await handler.work()
            await handler.drop()
            await handler.attach(concurrency=1, leases=[lease(first)])
            await ada.say(await ada.open(), "two")
            await say(handler, first, "still here")
            assert works(handler) == [first]
            await handler.finish(first)
            assert (await handler.work(2)).turn.message.text == "two"

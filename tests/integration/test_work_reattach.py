"""What happened to work while its process was away is told when it attaches again."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from capsule_sidecar.rpc import convert
from tests.support.eventually import eventually
from tests.support.sidecar import PATIENT, BareHandler, Person, running_sidecar


async def test_a_stop_that_came_while_the_line_was_down_is_told_after_the_welcome(
    tmp_path: Path,
) -> None:
    timing = PATIENT | {"stop_grace": 30.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        session = await ada.open()
        sent = await ada.say(session, "work")
        async with BareHandler(running) as handler:
            await handler.attach()
            work = await handler.work()
            await handler.drop()
            stopped = await ada.call(
                "StopInvocation", session_id=session, invocation_id=sent.invocation_id
            )
            assert stopped.status == types_pb2.INVOCATION_STATUS_RUNNING
            handler.frames.clear()
            lease = handler_service_pb2.Lease(
                invocation_id=work.invocation_id, attempt=work.attempt
            )
            welcome = await handler.attach(leases=[lease])
            assert list(welcome.kept) == [lease]
            cancel = (await handler.gets("cancel")).cancel
            assert cancel.invocation_id == work.invocation_id
            assert cancel.reason == handler_service_pb2.CANCEL_REASON_STOPPED
            assert handler.frames[0].WhichOneof("frame") == "welcome"


async def test_stopped_work_that_nobody_runs_any_more_ends_when_its_process_comes_back(
    tmp_path: Path,
) -> None:
    timing = {"lease_term": 30.0, "fresh_beat": 5.0, "stop_grace": 30.0}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        session = await ada.open()
        sent = await ada.say(session, "work")
        async with BareHandler(running) as handler:
            await handler.attach()
            await handler.work()
            await handler.drop()
            await ada.call("StopInvocation", session_id=session, invocation_id=sent.invocation_id)
            async with await ada.follow(session) as follow:
                await handler.attach()
                ended = await follow.sees("invocation_ended", 2)
                assert ended.invocation_ended.status == types_pb2.INVOCATION_STATUS_STOPPED


async def test_a_fault_of_the_sidecar_ends_the_line_as_internal_and_tells_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: object) -> None:
        raise RuntimeError("secret inner text")

    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            await ada.say(await ada.open(), "work")
            work = await handler.work()
            monkeypatch.setattr(convert, "outcome", fault)
            await handler.finish(work)
            error = await eventually(lambda: handler.error, message="the line ends")
            assert error is not None
            assert error.code() == grpc.StatusCode.INTERNAL
            assert "secret" not in str(error.details())

"""A handler that raises: what a person sees of it, and what only the operator does."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import BareHandler, Person, refusal_of, running_sidecar
from tests.support.work import acknowledged, ended, invocations, say

FAILED = handler_service_pb2.OUTCOME_STATUS_FAILED


@pytest.mark.parametrize("reference", ["ref-7f3a", ""])
async def test_a_failed_turn_ends_neutrally_with_a_reference_and_the_next_goes_on(
    tmp_path: Path, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                work = await handler.work()
                await say(handler, work, "half done")
                await handler.finish(
                    work, FAILED, reference_id=reference, error_type="SecretKeyError"
                )
                ack = await acknowledged(handler, work)
                assert ack.status == types_pb2.INVOCATION_STATUS_FAILED
                end = await ended(follow, work.invocation_id)
                assert (end.status, end.reason) == (
                    types_pb2.INVOCATION_STATUS_FAILED,
                    "HANDLER_ERROR",
                )
                assert end.reference_id == reference or not reference
                assert end.reference_id
                assert "Secret" not in str(follow.frames)
            assert "Secret" not in str(await ada.call("GetTimeline", session_id=session))
            assert "Secret" not in caplog.text
            failed = (await invocations(ada))[0]
            assert (failed.error_type, failed.reference_id) == ("SecretKeyError", end.reference_id)
            await ada.say(session, "again")
            assert (await handler.work(2)).turn.message.text == "again"
        items = await ada.timeline(session)
        assert [i.WhichOneof("item") for i in items] == ["message", "message", "ended", "message"]
        assert items[2].ended == end


async def test_a_reference_that_could_carry_text_is_not_passed_on(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                work = await handler.work()
                await handler.finish(work, FAILED, reference_id="the password is tiger")
                end = await ended(follow, work.invocation_id)
                assert end.reference_id
                assert "tiger" not in str(follow.frames)


async def test_data_goes_with_the_outcome_also_after_an_error(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "one")
            work = await handler.work()
            patch = types_pb2.DataPatch(set_json={"tries": b"1"})
            await handler.finish(work, FAILED, data=patch)
            await ada.say(session, "two")
            work = await handler.work(2)
            assert work.data_json == b'{"tries":1}'
            patch = types_pb2.DataPatch(set_json={"done": b"true"}, delete_keys=["tries"])
            await handler.finish(work, data=patch)
            await ada.say(session, "three")
            assert (await handler.work(3)).data_json == b'{"done":true}'


@pytest.mark.parametrize("value", [b"NaN", b"{", b"", b'"\xff"', b'"' + b"x" * (1 << 20) + b'"'])
async def test_data_that_cannot_be_applied_is_dropped_whole_and_the_turn_fails(
    tmp_path: Path, value: bytes
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "one")
                work = await handler.work()
                patch = types_pb2.DataPatch(set_json={"good": b"1", "bad": value})
                await handler.finish(work, data=patch)
                end = await ended(follow, work.invocation_id)
                assert (end.status, end.reason) == (
                    types_pb2.INVOCATION_STATUS_FAILED,
                    "INVALID_DATA",
                )
            await ada.say(session, "two")
            assert (await handler.work(2)).data_json == b"{}"


async def test_an_outcome_without_a_status_ends_the_line(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "one")
            work = await handler.work()
            await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_UNSPECIFIED)
            error = await eventually(lambda: handler.error, timeout=15, message="the line ends")
            assert error is not None
            assert refusal_of(error).fields == ["outcome.status"]
            assert not any(frame.HasField("outcome_ack") for frame in handler.frames)

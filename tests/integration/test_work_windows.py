"""Windows: what a process that sends more than the welcome allows gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import (
    PATIENT,
    BareHandler,
    Person,
    Refusal,
    refusal_of,
    request_id,
    running_sidecar,
)
from tests.support.work import acknowledged, of, reply, say

HandlerFrame = handler_service_pb2.HandlerFrame
Command = handler_service_pb2.Command


async def taken(running: Any, ada: Person, handler: BareHandler) -> tuple[str, Any]:
    """Gives the process a turn; returns the session and the turn."""
    await handler.attach()
    session = await ada.open()
    await ada.say(session, "hello")
    return session, await handler.work()


async def ended_by(handler: BareHandler) -> Refusal:
    """Waits until the line is ended with an error."""
    error = await eventually(lambda: handler.error, timeout=15, message="the line ends")
    assert error is not None
    return refusal_of(error)


async def test_more_commands_in_flight_than_allowed_end_the_line_and_lose_nothing(
    tmp_path: Path,
) -> None:
    limits = {"commands_in_flight": 4}
    async with (
        running_sidecar(tmp_path, limits=limits, timing=PATIENT) as running,
        Person(running) as ada,
    ):
        async with BareHandler(running) as handler:
            session, work = await taken(running, ada, handler)
            replies = [reply(work, f"reply {number}") for number in range(5)]
            await handler.send(
                *(
                    HandlerFrame(command=Command(tag=number, reply=request))
                    for number, request in enumerate(replies, 1)
                )
            )
            refusal = await ended_by(handler)
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "LIMIT_EXCEEDED",
            )
            assert refusal.metadata["limit"] == "commands_in_flight"
            assert refusal.metadata["maximum"] == "4"
            await handler.drop()
            handler.error = None
            handler.frames.clear()
            lease = handler_service_pb2.Lease(**of(work))
            assert list((await handler.attach(leases=[lease])).kept) == [lease]
            for request in replies:  # what was not answered is sent again
                await handler.result(await handler.command(reply=request))
            await handler.finish(work)
            await acknowledged(handler, work)
        assert await ada.texts(session) == ["hello", *(r.text for r in replies)]


async def test_as_many_commands_as_allowed_go_through_again_and_again(tmp_path: Path) -> None:
    limits = {"commands_in_flight": 4}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, work = await taken(running, ada, handler)
            for group in range(3):
                tags = [group * 4 + number for number in range(1, 5)]
                await handler.send(
                    *(HandlerFrame(command=Command(tag=t, reply=reply(work, str(t)))) for t in tags)
                )
                for tag in tags:
                    assert (await handler.result(tag)).reply.offset
        assert await ada.texts(session) == ["hello", *map(str, range(1, 13))]


async def test_more_bytes_in_flight_than_allowed_end_the_line(tmp_path: Path) -> None:
    limits = {"bytes_in_flight": 10_000}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            _, work = await taken(running, ada, handler)
            await say(handler, work, "x" * 9_000)
            await handler.send(
                *(
                    HandlerFrame(command=Command(tag=tag, reply=reply(work, "x" * 6_000)))
                    for tag in (11, 12)
                )
            )
            refusal = await ended_by(handler)
            assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_more_text_of_one_stream_than_its_window_ends_the_line(tmp_path: Path) -> None:
    limits = {"stream_window_bytes": 10_000}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            _, work = await taken(running, ada, handler)
            stream_id = request_id()
            opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
            await handler.result(await handler.command(open_stream=opening))
            delta = session_service_pb2.AppendStreamRequest(
                **of(work, stream_id=stream_id, text="x" * 6_000)
            )
            await handler.send(*[HandlerFrame(command=Command(append_stream=delta))] * 2)
            refusal = await ended_by(handler)
            assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusal.metadata["limit"] == "stream_window_bytes"


async def test_a_command_without_a_tag_that_wants_an_answer_ends_the_line(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, work = await taken(running, ada, handler)
            await handler.send(HandlerFrame(command=Command(reply=reply(work, "untagged"))))
            refusal = await ended_by(handler)
            assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
            assert refusal.fields == ["command.tag"]
        assert await ada.texts(session) == ["hello"]

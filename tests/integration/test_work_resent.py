"""Commands that are sent again: after the line was lost, and after the sidecar was."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2, types_pb2
from tests.support.sidecar import (
    PATIENT,
    BareHandler,
    Person,
    Running,
    SidecarProcess,
    request_id,
    running_sidecar,
)
from tests.support.work import acknowledged, lease, of, reply

Invocation = handler_service_pb2.Invocation
Command = handler_service_pb2.Command
RESULT = handler_service_pb2.CommandResult
UNHURRIED = {"CAPSULE_TIMING__LEASE_TERM": "30"}


def script(work: Invocation) -> list[Command]:
    """Returns one command of each kind that writes, with tags from 1 and ids of their own."""
    stream_id = request_id()
    block = types_pb2.Block(type="card", payload_json=b'{"n":1}')
    patch = types_pb2.DataPatch(set_json={"seen": b"1"})
    opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
    delta = session_service_pb2.AppendStreamRequest(
        **of(work, stream_id=stream_id, text="streamed", position=0)
    )
    closing = session_service_pb2.CloseStreamRequest(
        **of(work, request_id=request_id(), stream_id=stream_id, length=8)
    )
    show = session_service_pb2.ShowBlockRequest(**of(work, request_id=request_id(), block=block))
    title = session_service_pb2.SetTitleRequest(**of(work, request_id=request_id(), title="Titled"))
    update = session_service_pb2.UpdateDataRequest(**of(work, request_id=request_id(), patch=patch))
    return [
        Command(tag=1, reply=reply(work, "said")),
        Command(tag=2, reply=reply(work, "said")),  # equal words, not the same request
        Command(tag=3, open_stream=opening),
        Command(append_stream=delta),
        Command(tag=4, close_stream=closing),
        Command(tag=5, show_block=show),
        Command(tag=6, set_title=title),
        Command(tag=7, update_data=update),
    ]


async def run(handler: BareHandler, commands: list[Command]) -> list[RESULT]:
    """Sends commands as one batch; returns their results in order."""
    frames = [handler_service_pb2.HandlerFrame(command=command) for command in commands]
    await handler.send(*frames)
    results = [await handler.result(command.tag) for command in commands if command.tag]
    assert [r for r in results if r.WhichOneof("result") == "error"] == []
    return results


def same(first: list[RESULT], again: list[RESULT]) -> None:
    """Asserts that the answers are the same; a stream that is complete says so when reopened."""
    for before, after in zip(first, again, strict=True):
        if before.WhichOneof("result") == "open_stream":
            assert after.open_stream.stream_id == before.open_stream.stream_id
            assert after.open_stream.message.text == "streamed"
        else:
            assert after == before


async def took(running: Running, ada: Person, handler: BareHandler) -> tuple[str, Invocation]:
    """Has the process take a turn; returns the session and the turn."""
    await handler.attach()
    session = await ada.open()
    await ada.say(session, "hello")
    return session, await handler.work()


async def check(ada: Person, session: str, offset: int) -> None:
    """Asserts that everything is there once, and nothing came after `offset`."""
    page = await ada.call("GetTimeline", session_id=session)
    kinds = [item.WhichOneof("item") for item in page.items]
    assert kinds == ["message", "message", "message", "message", "block"]
    assert await ada.texts(session) == ["hello", "said", "said", "streamed"]
    assert (page.session.title, page.offset) == ("Titled", offset)


async def test_commands_sent_again_after_the_line_was_lost_answer_the_same(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, work = await took(running, ada, handler)
            commands = script(work)
            first = await run(handler, commands)
            offset = (await ada.call("GetTimeline", session_id=session)).offset
            await handler.drop()
            handler.frames.clear()
            await handler.attach(leases=[lease(work)])
            same(first, await run(handler, commands))
            await check(ada, session, offset)
            assert await run(handler, [Command(tag=99, reply=reply(work, "new"))])


@pytest.mark.deadline(120)
async def test_commands_sent_again_after_the_sidecar_was_killed_answer_the_same(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path, environment=UNHURRIED) as process:
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            session, work = await took(running, ada, handler)
            commands = script(work)
            first = await run(handler, commands)
            offset = (await ada.call("GetTimeline", session_id=session)).offset
            process_id = handler.process_id
            await process.kill()
        running = await process.start()
        async with Person(running) as ada:
            async with BareHandler(running, process_id=process_id) as handler:
                assert list((await handler.attach(leases=[lease(work)])).kept) == [lease(work)]
                same(first, await run(handler, commands))
                await check(ada, session, offset)
                await run(handler, [Command(tag=99, reply=reply(work, "new"))])
                await handler.finish(work)
                ack = await acknowledged(handler, work)
                assert ack.status == types_pb2.INVOCATION_STATUS_COMPLETED
            assert (await ada.texts(session))[-1] == "new"


@pytest.mark.deadline(120)
async def test_commands_that_a_killed_sidecar_did_not_answer_take_effect_once(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path, environment=UNHURRIED) as process:
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            session, work = await took(running, ada, handler)
            replies = [reply(work, f"reply {number}") for number in range(200)]
            commands = [Command(tag=n, reply=r) for n, r in enumerate(replies, 1)]
            frames = [handler_service_pb2.HandlerFrame(command=c) for c in commands]
            await handler.send(*frames)
            process_id = handler.process_id
            await process.kill()  # somewhere amid them
        running = await process.start()
        async with Person(running) as ada:
            async with BareHandler(running, process_id=process_id) as handler:
                await handler.attach(leases=[lease(work)])
                offsets = [r.reply.offset for r in await run(handler, commands)]
                assert offsets == sorted(set(offsets))
                await handler.finish(work)
                await acknowledged(handler, work)
            page = await ada.call("GetTimeline", session_id=session, page_size=200)
            texts = [item.message.text for item in page.items]
            assert texts[-200:] == [r.text for r in replies]


async def test_an_outcome_sent_again_after_a_restart_is_acknowledged_with_the_end(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, work = await took(running, ada, handler)
            await handler.finish(work)
            await acknowledged(handler, work)
            process_id = handler.process_id
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running, process_id=process_id) as handler:
            welcome = await handler.attach(leases=[lease(work)])
            assert list(welcome.superseded) == [lease(work)]
            await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_FAILED)
            ack = await acknowledged(handler, work)
            assert ack.status == types_pb2.INVOCATION_STATUS_COMPLETED
        items = await ada.timeline(session)
        assert [item.WhichOneof("item") for item in items] == ["message"]

"""A sidecar that is killed while a stream is open: what was acknowledged is there and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import BareHandler, Person, Running, SidecarProcess
from tests.support.turns import Desk, turn_on, work_of

# The turn must be held still when its process attaches again, however long a start takes.
HELD = {"CAPSULE_TIMING__LEASE_TERM": "60"}


async def attach_again(running: Running, desk: Desk, ada: Person, handler: BareHandler) -> Desk:
    """Attaches as the process that held the turn, and returns the turn."""
    lease = handler_service_pb2.Lease(
        invocation_id=desk.work.invocation_id, attempt=desk.work.attempt
    )
    welcome = await handler.attach(leases=[lease])
    assert list(welcome.kept) == [lease]
    return Desk(running, ada, handler, desk.session, desk.work)


@pytest.mark.parametrize("text", ["hello world", "h\u00e9llo \U0001f600" * 1000])
async def test_a_stream_goes_on_at_its_durable_place_and_a_late_joiner_has_the_text(
    tmp_path: Path, text: str
) -> None:
    async with SidecarProcess(tmp_path, environment=HELD) as sidecar:
        running = await sidecar.start()
        async with turn_on(running) as desk:
            stream = await desk.open()
            await desk.delta(stream, text)
            await eventually(lambda: desk.acks(stream)[-1:] == [(0, len(text))], timeout=15)
            await desk.delta(stream, " lost, perhaps")
            await sidecar.kill()
            running = await sidecar.start()
            async with Person(running) as ada:
                async with BareHandler(running, process_id=desk.handler.process_id) as handler:
                    again = await attach_again(running, desk, ada, handler)
                    async with await ada.follow(desk.session) as follow:
                        [held] = (await follow.live()).streams
                        assert (text + " lost, perhaps").startswith(held.text)
                        assert len(held.text) >= len(text)
                        opened = await again.command("open_stream", request_id=stream)
                        assert opened.position == len(held.text)
                        whole = text + " lost, perhaps" + ", and found"
                        rest = whole[opened.position :]
                        await again.delta(stream, rest, position=opened.position)
                        await eventually(
                            lambda: Fold().read(follow.frames).streams[stream].text == whole,
                            timeout=15,
                        )
                        await eventually(
                            lambda: again.acks(stream)[-1:] == [(0, len(whole))], timeout=15
                        )
                        closed = await again.close(stream, whole)
                        assert closed.message.text == whole
                        await again.finish()
                        assert await ada.texts(desk.session) == ["hello", whole]


async def test_a_replacement_survives_a_restart_with_its_revision(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path, environment=HELD) as sidecar:
        running = await sidecar.start()
        async with turn_on(running) as desk:
            stream = await desk.open()
            await desk.delta(stream, "a long draft")
            await eventually(lambda: desk.acks(stream), timeout=15)
            await desk.delta(stream, "text", position=2, replace=True, revision=1)
            await eventually(lambda: desk.acks(stream)[-1] == (1, 6), timeout=15)
            await desk.delta(stream, "", position=3, replace=True, revision=2)
            await eventually(lambda: desk.acks(stream)[-1] == (2, 3), timeout=15)
            await sidecar.kill()
            running = await sidecar.start()
            async with Person(running) as ada:
                async with BareHandler(running, process_id=desk.handler.process_id) as handler:
                    again = await attach_again(running, desk, ada, handler)
                    opened = await again.command("open_stream", request_id=stream)
                    assert (opened.revision, opened.position) == (2, 3)
                    async with await ada.follow(desk.session) as follow:
                        [held] = (await follow.live()).streams
                        assert (held.text, held.revision) == ("a t", 2)
                        await again.delta(stream, "ry", position=3, revision=2)
                        assert (await again.close(stream, "a try")).message.text == "a try"


async def test_a_stream_that_nobody_goes_on_with_keeps_its_text_when_the_turn_ends(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path, environment=HELD) as sidecar:
        running = await sidecar.start()
        async with turn_on(running) as desk:
            stream = await desk.open()
            await desk.delta(stream, "so far")
            await eventually(lambda: desk.acks(stream), timeout=15)
            await sidecar.kill()
            running = await sidecar.start()
            async with Person(running) as ada:
                async with BareHandler(running, process_id=desk.handler.process_id) as handler:
                    again = await attach_again(running, desk, ada, handler)
                    await again.finish()
                    items = await ada.timeline(desk.session)
                    assert [item.message.text for item in items] == ["hello", "so far"]
                    assert items[1].message.interrupted


async def test_another_process_begins_anew_and_the_unfinished_text_is_withdrawn(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with turn_on(running) as desk:
            stream = await desk.open()
            await desk.delta(stream, "the first attempt")
            await eventually(lambda: desk.acks(stream), timeout=15)
            await desk.handler.drop()
            await sidecar.kill()
            running = await sidecar.start()
            async with Person(running) as ada, BareHandler(running) as other:
                await other.attach()
                work = await work_of(other, desk.work.invocation_id)
                assert work.attempt == 2
                second = Desk(running, ada, other, desk.session, work)
                async with await ada.follow(desk.session) as follow:
                    [held] = (await follow.live()).streams
                    assert held.text == "the first attempt", "in sight until the next one writes"
                    await second.command("reply", text="the second attempt")
                    withdrawn = await follow.sees("stream_withdrawn")
                    assert withdrawn.stream_withdrawn.stream_id == stream
                    await second.finish()
                    assert await ada.texts(desk.session) == ["hello", "the second attempt"]

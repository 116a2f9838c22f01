"""A follower that does not read: it costs nobody anything, and catches up when it reads again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from capsule_protocol.v1 import handler_service_pb2
from capsule_sidecar.runtime import hub
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.http import Browser
from tests.support.sidecar import Follow, Person, SidecarProcess
from tests.support.turns import Desk, turn, turn_on

DELTAS, PIECE, TOGETHER = 50_000, 2_048, 5
MIB = 1 << 20


@pytest.mark.deadline(180)
async def test_followers_that_never_read_cost_little_and_end_with_what_the_others_see(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        sidecar = await stack.enter_async_context(SidecarProcess(tmp_path))
        running = await sidecar.start()
        desk = await stack.enter_async_context(turn_on(running))
        slow = []
        for _ in range(10):
            person = await stack.enter_async_context(Person(running))
            slow.append(await person.follow(desk.session))  # begun, and never read
        reader = await stack.enter_async_context(await desk.person.follow(desk.session))
        await reader.live()

        async def all_follow() -> bool:
            async with Browser(running) as me:
                return "capsule_followers 11.0" in (await me.http.get("/metrics")).text

        await eventually(all_follow, timeout=30)  # one that came late would need one snapshot only
        stream = await desk.open()
        assert sidecar.process is not None
        await _flood(desk, stream, 2_000)
        before = _resident(sidecar.process.pid)
        text = await _flood(desk, stream, DELTAS)
        grown = _resident(sidecar.process.pid) - before
        # What was sent is 20 MiB for each of them; what they may cost is the tail and a window.
        assert grown < 40 * MIB, f"{grown / MIB:.0f} MiB more"
        await _shows(reader, stream, text)
        for follow in slow:
            await stack.enter_async_context(follow)
            await _shows(follow, stream, text)
            seen = Fold().read(follow.frames)
            assert seen.snapshots >= 2, "it was caught up by a fresh snapshot"
        closed = await desk.close(stream, text)
        await desk.finish()
        for follow in (reader, *slow):
            await follow.sees("invocation_ended", 2, timeout=30)
            seen = Fold().read(follow.frames)
            assert seen.ordered() == ["hello", closed.message.text]
            assert not seen.streams


async def test_a_follower_that_fell_behind_misses_no_event_and_sees_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tail of 3 frames, a follower falls out of it all the time."""
    monkeypatch.setattr(hub, "_TAIL_FRAMES", 3)
    async with turn(tmp_path) as desk:
        follows = []
        async with AsyncExitStack() as stack:
            for _ in range(5):
                follow = await stack.enter_async_context(await desk.person.follow(desk.session))
                await follow.live()
                follows.append(follow)
            stream = await desk.open()
            for number in range(40):
                await _at_once(desk, 30, f"{number}")
                await desk.delta(stream, f"{number} ")
            text = "".join(f"{number} " for number in range(40))
            await desk.close(stream, text)
            await desk.finish()
            replies = [str(number) for number in range(40) for _ in range(30)]
            for follow in follows:
                await follow.sees("invocation_ended", 2, timeout=30)
                seen = Fold().read(follow.frames)  # which asserts the offsets
                assert seen.ordered() == ["hello", text, *replies]
                assert not seen.lines
                assert not seen.streams
            # The snapshot of who caught up comes behind the last event, which was looked at above.
            await eventually(
                lambda: max(Fold().read(follow.frames).snapshots for follow in follows) > 1,
                timeout=15,
            )


async def _at_once(desk: Desk, count: int, text: str) -> None:
    """Sends replies and status lines as one batch, so that more than a tail is told together."""
    frames = []
    for _ in range(count):
        for name in ("notify", "reply"):
            command = handler_service_pb2.Command(tag=1, **{name: desk.request(name, text=text)})
            frames.append(handler_service_pb2.HandlerFrame(command=command))
    await desk.handler.send(*frames)


async def _shows(follow: Follow, stream: str, text: str) -> None:
    def shown() -> bool:
        open_text = Fold().read(follow.frames).streams.get(stream)
        return open_text is not None and open_text.text == text

    await eventually(shown, timeout=30, interval=0.05)


async def _flood(desk: Desk, stream: str, deltas: int) -> str:
    """Sends deltas that each replace the text, within the stream's window; returns the last."""
    opened = await desk.command("open_stream", request_id=stream)
    revision, text = int(opened.revision), ""
    for number in range(deltas // TOGETHER):
        frames = []
        for _ in range(TOGETHER):
            revision += 1
            text = f"{revision:08d}" * (PIECE // 8)
            append = desk.request(
                "append_stream", stream_id=stream, text=text, revision=revision, replace=True
            )
            command = handler_service_pb2.Command(append_stream=append)
            frames.append(handler_service_pb2.HandlerFrame(command=command))
        await desk.handler.send(*frames)
        if number % 80 == 0:
            await _durable(desk, stream, revision)
    await _durable(desk, stream, revision)
    return text


async def _durable(desk: Desk, stream: str, revision: int) -> None:
    """Waits until a revision is acknowledged; drops what was looked at, as it is much."""
    frames = desk.handler.frames

    def acknowledged() -> bool:
        return any(
            frame.stream_ack.stream_id == stream and frame.stream_ack.revision >= revision
            for frame in frames
        )

    await eventually(acknowledged, timeout=30, interval=0.001)
    frames[:] = [frame for frame in frames if not frame.HasField("stream_ack")]


def _resident(process: int) -> int:
    """Returns the resident memory of a process in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")

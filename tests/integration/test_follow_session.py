"""Following a session: replay, snapshot, live; late joiners; status lines; presence; beats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2
from capsule_sidecar.runtime.hub import Hub
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Follow,
    Person,
    refusal_of,
    request_id,
    running_sidecar,
)
from tests.support.turns import Desk, turn


def fold(follow: Follow, after: int = 0) -> Fold:
    """Returns what a follower has seen so far."""
    assert follow.error is None, follow.error
    return Fold(after).read(follow.frames)


async def comes_to(follow: Follow, check: Callable[[Fold], bool]) -> None:
    """Waits until what a follower has seen passes a check."""
    await eventually(lambda: check(fold(follow)), timeout=20)


async def test_the_log_is_replayed_then_a_snapshot_then_what_happens(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for number in range(3):
            await desk.command("reply", text=f"{number}")
        async with await desk.person.follow(desk.session) as follow:
            snapshot = await follow.live()
            kinds = [frame.WhichOneof("frame") for frame in follow.frames]
            assert kinds == ["event"] * snapshot.offset + ["snapshot"]
            await desk.command("reply", text="live")
            await eventually(lambda: fold(follow).ordered()[-1] == "live", timeout=15)
            assert fold(follow).ordered() == ["hello", "0", "1", "2", "live"]


async def test_a_follower_begins_behind_the_offset_it_names(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await desk.command("reply", text="said")
        page = await desk.person.call("GetTimeline", session_id=desk.session)
        for after in range(page.offset + 1):
            async with await desk.person.follow(desk.session, after) as follow:
                assert (await follow.live()).offset == page.offset
                offsets = [event.offset for event in follow.events]
                assert offsets == list(range(after + 1, page.offset + 1))


@pytest.mark.parametrize("after", [1_000, 2**62, -1])
async def test_an_offset_that_the_log_does_not_hold_is_refused(tmp_path: Path, after: int) -> None:
    async with turn(tmp_path) as desk:
        async with await desk.person.follow(desk.session, after) as follow:
            await eventually(lambda: follow.error, timeout=15)
            assert follow.error is not None
            found = refusal_of(follow.error)
            assert (found.code, found.reason) == (
                grpc.StatusCode.OUT_OF_RANGE,
                "PLACE_UNAVAILABLE",
            )
            page = await desk.person.call("GetTimeline", session_id=desk.session)
            assert found.metadata == {"lowest": "1", "highest": str(page.offset)}


async def test_a_session_that_is_deleted_ends_its_followers(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        await follow.live()
        await desk.person.call("DeleteSession", session_id=desk.session)
        await eventually(lambda: follow.error, timeout=15)
        assert follow.error is not None
        assert follow.error.code() == grpc.StatusCode.NOT_FOUND


async def test_a_late_joiner_gets_the_text_so_far_exactly_once(tmp_path: Path) -> None:
    """Joins at random moments; the fold asserts that nothing is missing and nothing doubled."""
    dice = random.Random(7)
    pieces = [dice.choice(["a", "bc", "é", "\U0001f600", "x" * 40]) for _ in range(600)]
    async with turn(tmp_path) as desk:
        stream = await desk.open()
        joined: list[Follow] = []
        text = ""
        for piece in pieces:
            if dice.random() < 0.02 and text:
                cut = dice.randrange(len(text) + 1)
                text = text[:cut] + piece
                await desk.delta(stream, piece, position=cut, replace=True)
            else:
                text += piece
                await desk.delta(stream, piece)
            if dice.random() < 0.1:
                # The first is to see text pass; the others begin while it does.
                joined.append(await desk.person.follow(desk.session, live=not joined))
                await joined[-1].__aenter__()
                if dice.random() < 0.5:
                    await asyncio.sleep(0)  # not to wait: to let others in between
        for follow in joined:
            await comes_to(follow, lambda seen: [s.text for s in seen.streams.values()] == [text])
        assert len(joined) > 30
        assert any(frame.HasField("transient") for frame in joined[0].frames)
        closed = await desk.close(stream, text)
        assert closed.message.text == text
        for follow in joined:
            await comes_to(follow, lambda seen: seen.ordered() == ["hello", text])
            assert not fold(follow).streams
            await follow.__aexit__()


async def test_a_status_line_gives_way_to_the_next_and_ends_with_the_message(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        await follow.live()
        mine = desk.work.invocation_id

        async def shows(*lines: str) -> None:
            await eventually(lambda: list(fold(follow).lines.values()) == list(lines), timeout=15)
            async with await desk.person.follow(desk.session) as late:
                snapshot = await late.live()
                held = [line.status_line.text for line in snapshot.status_lines]
                assert held == list(lines), "a late joiner sees what the others see"

        await desk.command("notify", text="looking", detail="at it")
        await shows("looking")
        await desk.command("notify", text="still looking")
        await shows("still looking")
        await desk.command("notify", text="  ")
        await shows("still looking")
        assert fold(follow).lines.keys() == {mine}
        await desk.command("reply", text="found")
        await shows()
        await desk.command("notify", text="more")
        await shows("more")
        await desk.open()
        await shows()
        await desk.command("notify", text="last")
        await shows("last")
        await desk.finish()
        await shows()
        following = await desk.next_turn("next")
        assert [m.text for m in following.work.history] == ["hello", "found"]
        items = await desk.person.timeline(desk.session)
        assert len(items) == 3, "a status line is no item"


async def test_a_status_line_is_behind_what_was_sent_before_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        await follow.live()
        for number in range(50):
            await desk.send("notify", text=f"line {number}")
            await desk.send("reply", text=f"reply {number}")
        await desk.command("notify", text="end")
        await eventually(lambda: list(fold(follow).lines.values()) == ["end"], timeout=15)
        lines = [f.transient for f in follow.frames if f.transient.HasField("status_line")]
        for number, line in enumerate(lines[:50]):
            assert line.status_line.text == f"line {number}"
        afters = [line.after_offset for line in lines]
        assert afters == sorted(set(afters)), "each line is behind the reply before it"


async def test_presence_is_told_in_the_snapshot_and_when_it_changes(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        async with await ada.follow(session) as follow:
            assert not (await follow.live()).presence.online
            async with BareHandler(running) as other:
                actions = handler_service_pb2.Declarations(actions=["pick"])
                await other.attach(declarations=actions)
                async with BareHandler(running) as first, BareHandler(running) as second:
                    await first.attach()
                    await eventually(lambda: fold(follow).online, timeout=15)
                    await second.attach()
                    await first.drop()
                    async with await ada.follow(session) as late:
                        assert (await late.live()).presence.online
                await eventually(lambda: not fold(follow).online, timeout=15)
            told = [
                frame.transient.app_presence.online
                for frame in follow.frames
                if frame.transient.HasField("app_presence")
            ]
            assert told == [True, False], "only what changes is told; actions answer nobody"


async def test_a_beat_carries_the_offset_when_nothing_happens(tmp_path: Path) -> None:
    timing = FAST | {"follow_beat": 0.4}
    async with turn(tmp_path, timing=timing) as desk:
        loop = asyncio.get_running_loop()
        begun = loop.time()  # before the first of them: a stall here makes none of them early
        async with await desk.person.follow(desk.session) as follow:
            await follow.live()

            def beats() -> int:
                return sum(frame.HasField("beat") for frame in follow.frames)

            await eventually(lambda: beats() >= 5, timeout=15)
            assert loop.time() - begun > 4 * 0.2, "beats are not a flood"
            fold(follow)  # which checks the offset of each
            assert (await desk.command("reply", text="hi")).offset
            before = beats()
            await eventually(lambda: beats() > before, timeout=15)
            fold(follow)


async def test_200_followers_see_the_same(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        follows = [await desk.person.follow(desk.session) for _ in range(200)]
        for follow in follows:
            await follow.__aenter__()
        for follow in follows:
            await follow.live(timeout=30)
        stream = await desk.open()
        for number in range(100):
            await desk.delta(stream, f"{number} ")
            await desk.send("notify", text=f"at {number}")
        text = "".join(f"{number} " for number in range(100))
        await desk.close(stream, text)
        await desk.finish()
        for follow in follows:
            await follow.sees("invocation_ended", 2, timeout=30)
        folds = [fold(follow) for follow in follows]
        assert all(one.ordered() == ["hello", text] for one in folds)
        assert all(one.kinds == folds[0].kinds and not one.lines for one in folds)
        hub = _hub(desk)
        assert hub.followers == 200
        for follow in follows:
            await follow.__aexit__()
        await eventually(lambda: hub.followers == 0, timeout=15)


async def test_a_follower_that_hangs_up_at_any_moment_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        stream = request_id()
        await desk.open(request_id=stream)
        for number in range(60):
            follow = await desk.person.follow(desk.session, live=False)
            async with follow:
                await desk.delta(stream, "text ")
                if number % 3 == 0:
                    await follow.live()
                elif number % 3 == 1:
                    await comes_to(follow, lambda seen: seen.offset > 0)
        await eventually(lambda: _hub(desk).followers == 0, timeout=15)
        assert not list(_hub(desk)._topics())


def _hub(desk: Desk) -> Hub:
    assert desk.running.sidecar is not None
    return desk.running.sidecar.hub

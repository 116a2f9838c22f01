"""Following many sessions: by identity and by channel, in the order of positions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import channel_service_pb2
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import (
    FAST,
    BareHandler,
    Follow,
    Person,
    refusal_of,
    refused,
    running_sidecar,
)
from tests.support.turns import turn

BOTH: list[dict[str, str]] = [{"identity": "terminal:ada"}, {"channel": "terminal"}]
WAYS = pytest.mark.parametrize("way", BOTH, ids=["by identity", "by channel"])


def follow_channel(person: Person, way: dict[str, str], after: int = 0) -> Follow:
    """Follows many sessions in the background; `async with` ends it."""
    request = channel_service_pb2.FollowChannelRequest(
        after_position=after, identity=way.get("identity", ""), channel=way.get("channel", "")
    )
    return Follow(person.stub.FollowChannel(request, metadata=person.metadata))


def positions(follow: Follow) -> list[int]:
    """Returns the positions of the events, which must rise."""
    assert follow.error is None, follow.error
    found = [event.position for event in follow.events]
    assert found == sorted(set(found))
    return found


def of_session(follow: Follow, session: str) -> Fold:
    """Returns what was seen of one session, without snapshots of all of them."""
    return Fold().read(f for f in follow.frames if f.event.session_id == session)


@WAYS
async def test_all_sessions_are_followed_in_the_order_of_positions(
    tmp_path: Path, way: dict[str, str]
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        old = [await ada.open() for _ in range(3)]
        for number in range(5):
            for session in old:
                await ada.say(session, f"{number}")
        async with follow_channel(ada, way) as follow:
            await follow.live()
            new = await ada.open()
            await asyncio.gather(*(ada.say(s, f"live {n}") for s in (*old, new) for n in range(10)))
            await eventually(lambda: len(follow.events) == 3 * 16 + 11, timeout=15)
            positions(follow)
            for session in (*old, new):
                seen = of_session(follow, session)  # asserts offsets without a gap
                assert sorted(seen.ordered()[-10:]) == sorted(f"live {n}" for n in range(10))


@WAYS
async def test_following_goes_on_behind_a_position_without_gap_or_repetition(
    tmp_path: Path, way: dict[str, str]
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        sessions = [await ada.open() for _ in range(4)]

        async def talk() -> None:
            for number in range(40):
                await ada.say(sessions[number % 4], f"{number}")

        talking = asyncio.create_task(talk())
        seen: list[int] = []
        while len(seen) < 44:
            async with follow_channel(ada, way, seen[-1] if seen else 0) as follow:
                before = len(seen)
                await follow.sees("message_added" if seen else "session_opened")
                seen.extend(positions(follow))
                assert len(seen) > before
        await talking
        async with follow_channel(ada, way) as whole:
            await whole.live()
            assert positions(whole) == seen
        async with follow_channel(ada, way, seen[20]) as rest:
            await rest.live()
            assert positions(rest) == seen[21:]


@WAYS
async def test_others_are_not_seen(tmp_path: Path, way: dict[str, str]) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with Person(running, "telegram:ada") as elsewhere:
            async with Person(running, app="other") as other:
                async with Person(running, "terminal:eve") as eve:
                    mine = await ada.open()
                    async with follow_channel(ada, way) as follow:
                        await follow.live()
                        theirs = await eve.open()
                        for person in (elsewhere, other):
                            await person.say(await person.open(), "not yours")
                        await ada.say(mine, "mine")
                        await follow.sees("message_added")
                        seen = {event.session_id for event in follow.events}
                        assert seen == {mine} | ({theirs} if "channel" in way else set())


@WAYS
async def test_a_deleted_session_is_told_and_its_log_is_gone(
    tmp_path: Path, way: dict[str, str]
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        kept, gone = await ada.open(), await ada.open()
        async with follow_channel(ada, way) as follow:
            await follow.live()
            await ada.call("DeleteSession", session_id=gone)
            deleted = await follow.sees("session_deleted")
            assert (deleted.session_id, deleted.offset) == (gone, 0)
            positions(follow)
        async with follow_channel(ada, way) as late:
            await late.live()
            kinds = [(e.session_id, e.WhichOneof("kind")) for e in late.events]
            assert kinds == [(kept, "session_opened"), (gone, "session_deleted")]
        async with follow_channel(ada, way, deleted.position) as after:
            await after.live()
            assert not after.events


@WAYS
async def test_what_passes_in_every_session_is_in_the_snapshot(
    tmp_path: Path, way: dict[str, str]
) -> None:
    async with turn(tmp_path) as desk:
        await desk.person.say(await desk.person.open(), "more")
        stream = await desk.open()
        await desk.delta(stream, "so far")
        async with follow_channel(desk.person, way) as follow:
            await follow.live()
            await desk.command("notify", text="looking")
            await eventually(
                lambda: (
                    [
                        f.transient.status_line.text
                        for f in follow.frames
                        if f.transient.HasField("status_line")
                    ]
                    == ["looking"]
                ),
                timeout=15,
            )
        async with follow_channel(desk.person, way) as late:
            snapshot = await late.live()
            page = await desk.person.call("ListSessions")
            assert (snapshot.offset, snapshot.position) == (0, page.position)
            [open_stream] = snapshot.streams
            assert (open_stream.session_id, open_stream.stream_id, open_stream.text) == (
                desk.session, stream, "so far",
            )  # fmt: skip
            [line] = snapshot.status_lines
            assert (line.session_id, line.status_line.text) == (desk.session, "looking")
            assert snapshot.presence.online
            await desk.delta(stream, "!")
            await eventually(
                lambda: any(f.transient.text_delta.text == "!" for f in late.frames), timeout=15
            )


@WAYS
async def test_a_beat_carries_the_position(tmp_path: Path, way: dict[str, str]) -> None:
    timing = FAST | {"follow_beat": 0.4}
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        await ada.open()
        async with follow_channel(ada, way) as follow:
            await follow.live()
            await eventually(
                lambda: sum(frame.HasField("beat") for frame in follow.frames) >= 2, timeout=15
            )
            beat = next(frame.beat for frame in follow.frames if frame.HasField("beat"))
            page = await ada.call("ListSessions")
            assert (beat.offset, beat.position) == (0, page.position)


@WAYS
@pytest.mark.parametrize("after", [10_000, -1])
async def test_a_position_that_the_log_does_not_hold_is_refused(
    tmp_path: Path, way: dict[str, str], after: int
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        await ada.open()
        async with follow_channel(ada, way, after) as follow:
            await eventually(lambda: follow.error, timeout=15)
            assert follow.error is not None
            found = refusal_of(follow.error)
            assert (found.code, found.reason) == (
                grpc.StatusCode.OUT_OF_RANGE, "PLACE_UNAVAILABLE",
            )  # fmt: skip
            page = await ada.call("ListSessions")
            assert found.metadata == {"lowest": "1", "highest": str(page.position)}


async def test_somebody_must_be_named_to_follow(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
            call: Any = follow_channel(ada, {}).call
            await call.read()
        assert found.fields == ["identity"]


async def test_a_person_who_was_never_seen_may_be_followed_before_the_first_session(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        async with Person(running) as ada, follow_channel(ada, BOTH[0]) as follow:
            assert not (await follow.live()).presence.online
            await handler.attach()
            session = await ada.open()
            assert (await follow.sees("session_opened")).session_id == session

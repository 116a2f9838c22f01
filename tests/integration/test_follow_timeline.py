"""Where a follower begins: the list of sessions and the pages of a timeline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from capsule_protocol.v1 import (
    channel_service_pb2,
    events_pb2,
    handler_service_pb2,
    types_pb2,
)
from tests.support.eventually import eventually
from tests.support.fold import Fold
from tests.support.sidecar import Follow, Person, refused, running_sidecar
from tests.support.turns import turn


async def test_sessions_are_listed_by_their_newest_user_message(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        ada = desk.person
        older, newer = await ada.open("older"), await ada.open("newer")

        async def order() -> list[str]:
            return [session.session_id for session in (await ada.call("ListSessions")).sessions]

        assert await order() == [newer, older, desk.session]
        await ada.say(older, "again")
        assert await order() == [older, newer, desk.session]
        await desk.command("reply", text="a reply is no activity of the person")
        await ada.call("UpdateSession", session_id=newer, title="nor is a title")
        assert await order() == [older, newer, desk.session]
        listed = (await ada.call("ListSessions")).sessions
        async with await ada.follow(older) as follow:
            await follow.live()
            assert listed[0].activity_position == (await follow.sees("message_added")).position
        async with await ada.follow(newer) as follow:
            await follow.live()
            assert listed[1].activity_position == follow.events[0].position


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("plan", ["Holiday PLANS"]),
        ("HOLIDAY p", ["Holiday PLANS"]),
        ("été", ["L'ÉTÉ à Nice"]),
        ("ÉTÉ", ["L'ÉTÉ à Nice"]),
        ("100%", ["100% _done_"]),
        ("_done_", ["100% _done_"]),
        ("%", ["100% _done_"]),
        ("none", []),
    ],
)
async def test_sessions_are_found_by_their_title_without_regard_to_case(
    tmp_path: Path, query: str, found: list[str]
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        for title in ("Holiday PLANS", "L'ÉTÉ à Nice", "100% _done_", ""):
            await ada.open(title)
        listed = (await ada.call("ListSessions", query=query)).sessions
        assert [session.title for session in listed] == found


async def test_a_query_has_at_most_200_characters(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        await ada.call("ListSessions", query="x" * 200)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
            await ada.call("ListSessions", query="x" * 201)
        assert refusal.fields == ["query"]


async def test_the_list_carries_the_position_to_follow_from(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        for number in range(20):
            await ada.say(session, f"{number}")
        page = await ada.call("ListSessions")
        await ada.say(session, "new")
        request = channel_service_pb2.FollowChannelRequest(
            identity=ada.identity, after_position=page.position
        )
        async with Follow(ada.stub.FollowChannel(request, metadata=ada.metadata)) as follow:
            await follow.live()
            assert [e.message_added.message.text for e in follow.events] == ["new"]


@pytest.mark.deadline(120)
async def test_a_timeline_pages_back_through_1000_messages(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        tags = [await desk.send("reply", text=f"reply {number}") for number in range(999)]
        await desk.handler.result(tags[-1], timeout=30)
        texts: list[str] = []
        token, pages = "", 0
        while pages == 0 or token:
            page = await desk.person.call(
                "GetTimeline", session_id=desk.session, page_size=150, page_token=token
            )
            assert bool(page.pending) == (pages == 0), "pending is on the newest page only"
            texts[:0] = [item.message.text for item in page.items]
            keys = [(item.place, item.offset) for item in page.items]
            assert keys == sorted(keys)
            token, pages = page.next_page_token, pages + 1
            if pages == 3:  # what comes meanwhile does not move the older pages
                await desk.command("reply", text="later")
        assert texts == ["hello", *(f"reply {number}" for number in range(999))]
        assert pages == 7


async def test_a_page_stops_at_1_mib(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        text = "x" * 250_000
        for _ in range(9):
            await desk.command("reply", text=text)
        sizes, token, first = [], "", True
        while first or token:
            page = await desk.person.call("GetTimeline", session_id=desk.session, page_token=token)
            assert page.ByteSize() < (1 << 20) + 65_536
            sizes.append(len(page.items))
            token, first = page.next_page_token, False
        assert sizes == [4, 4, 2]


async def test_a_block_is_changed_in_place(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        block = types_pb2.Block(type="card", payload_json=b'{"step":1}')
        shown = await desk.command("show_block", block=block)
        await desk.command("reply", text="below")
        block = types_pb2.Block(block_id=shown.block_id, type="card", payload_json=b'{"step":2}')
        changed = await desk.command("show_block", block=block)
        assert changed.block_id == shown.block_id
        items = await desk.person.timeline(desk.session)
        assert [item.WhichOneof("item") for item in items] == ["message", "block", "message"]
        assert items[1].block == block
        event = await follow.sees("block_shown", 2)
        assert (event.offset, event.item_offset) == (changed.offset, shown.offset)
        await desk.finish()
        # Another turn changes it too, and it stays where it was.
        later = await desk.next_turn("next")
        last = types_pb2.Block(block_id=shown.block_id, type="form", payload_json=b"{}")
        await later.command("show_block", block=last)
        items = await desk.person.timeline(desk.session)
        assert [item.WhichOneof("item") for item in items] == [
            "message", "block", "message", "message",
        ]  # fmt: skip
        assert items[1].block == last


async def test_a_turn_that_failed_is_an_item_with_its_reference(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await desk.finish(
            status=handler_service_pb2.OUTCOME_STATUS_FAILED,
            reference_id="ref-1",
            error_type="ValueError: a secret",
        )
        [_, item] = await desk.person.timeline(desk.session)
        assert item.invocation_id == desk.work.invocation_id
        assert item.ended == events_pb2.InvocationEnded(
            kind=types_pb2.INVOCATION_KIND_MESSAGE,
            status=types_pb2.INVOCATION_STATUS_FAILED,
            reason="HANDLER_ERROR",
            reference_id="ref-1",
            attempts=1,
        )
        following = await desk.next_turn("next")
        await following.finish()
        items = await desk.person.timeline(desk.session)
        assert [item.WhichOneof("item") for item in items] == ["message", "ended", "message"]


async def test_pending_work_is_listed_in_order_of_arrival(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        second = await desk.person.say(desk.session, "second")
        third = await desk.person.call("SendAction", session_id=desk.session, name="pick")
        page = await desk.person.call("GetTimeline", session_id=desk.session)
        running, queued = types_pb2.INVOCATION_STATUS_RUNNING, types_pb2.INVOCATION_STATUS_QUEUED
        assert [(p.invocation_id, p.status, p.place) for p in page.pending] == [
            (desk.work.invocation_id, running, page.items[0].place),
            (second.invocation_id, queued, second.offset),
            (third.invocation_id, queued, third.offset),
        ]
        await desk.finish()
        page = await desk.person.call("GetTimeline", session_id=desk.session)
        assert page.pending[0].invocation_id == second.invocation_id


async def test_a_page_and_what_follows_its_offset_are_the_whole_log(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        async with asyncio.TaskGroup() as group:
            stream = await desk.open()
            group.create_task(_talk(desk.person, desk.session))
            for number in range(30):
                await desk.command("reply", text=f"reply {number}")
                await desk.delta(stream, "x")
                page = await desk.person.call("GetTimeline", session_id=desk.session, page_size=200)
                shown = {
                    (item.place, item.offset): item.message.text
                    for item in page.items
                    if item.HasField("message")
                }
                async with await desk.person.follow(desk.session, page.offset) as follow:
                    await follow.live()
                    begun = Fold(page.offset, texts=dict(shown)).read(follow.frames)
                    assert begun.streams.keys() == {stream}
        whole = [item.message.text for item in await desk.person.timeline(desk.session)]
        async with await desk.person.follow(desk.session) as follow:
            await follow.live()
            await eventually(lambda: Fold().read(follow.frames).offset > 60, timeout=15)
            seen = Fold().read(follow.frames).ordered()
        assert sorted(seen) == sorted(text for text in whole if text)


async def _talk(person: Person, session: str) -> None:
    for number in range(30):
        await person.say(session, f"said {number}")

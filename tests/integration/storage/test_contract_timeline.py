"""What readers get: pages of the timeline, of sessions, and of the log over sessions."""

from __future__ import annotations

import asyncio

import pytest

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.errors import InvalidArgument, NotFound
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import log_reads, session_reads
from capsule_sidecar.storage.people import Person
from tests.integration.storage.store import PAGE, Sidecar, Store, offsets


def _texts(events: list[events_pb2.Event]) -> list[str]:
    return [event.message_added.message.text for event in events]


async def _talk(sidecar: Sidecar, turns: int) -> str:
    """Returns a session of so many turns, each a question and two answers."""
    await sidecar.attach()
    session = await sidecar.open()
    for turn in range(turns):
        await sidecar.turn(session, f"q{turn}", f"a{turn}", f"b{turn}")
    return session


async def test_messages_sort_by_place_and_offset(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        first, second = [await sidecar.say(session, text) for text in ("q0", "q1")]
        await sidecar.reply(Lease(first.ids[1], 1), "a0")
        await sidecar.finish(Lease(first.ids[1], 1))
        third = await sidecar.say(session, "q2")
        await sidecar.reply(Lease(second.ids[1], 1), "a1")
        items, token = await sidecar.items(session)
        assert _texts(items) == ["q0", "a0", "q1", "a1", "q2"]
        assert [item.place for item in items] == [
            first.offset, first.offset, second.offset, second.offset, third.offset,
        ]  # fmt: skip
        assert not token


async def test_pages_hold_every_item_once_newest_page_first(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await _talk(sidecar, 4)
        whole, _ = await sidecar.items(session)
        assert len(whole) == 12
        for size in (1, 2, 5, 11, 12):
            pages: list[list[events_pb2.Event]] = []
            token = ""
            while not pages or token:
                page, token = await sidecar.items(session, size=size, token=token)
                assert 0 < len(page) <= size
                pages.insert(0, page)
            assert [item for page in pages for item in page] == whole
            assert len(pages) == -(-12 // size)


async def test_pages_of_what_grows_meanwhile_hold_what_was_there_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await _talk(sidecar, 3)
        newest, token = await sidecar.items(session, size=4)
        await sidecar.turn(session, "later", "much later")
        older, _ = await sidecar.items(session, token=token)
        assert _texts(older + newest) == [f"{who}{n}" for n in range(3) for who in "qab"]


async def test_a_page_stops_at_its_bytes_but_holds_one_item_at_least(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        await sidecar.turn(session, "small", "x" * 3_000, "y" * 3_000, "z" * 9_000)
        page, token = await sidecar.items(session, max_bytes=7_000)
        assert [text[0] for text in _texts(page)] == ["z"]
        page, token = await sidecar.items(session, max_bytes=7_000, token=token)
        assert [text[0] for text in _texts(page)] == ["s", "x", "y"]
        assert not token


async def test_a_turns_history_ends_before_its_own_message(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await _talk(sidecar, 2)
        mine = await sidecar.say(session, "mine")
        await sidecar.say(session, "later")
        lease = Lease(mine.ids[1], 1)
        await sidecar.reply(lease, "an answer")
        await sidecar.show(lease)
        history, _ = await sidecar.items(session, messages_before=mine.offset)
        assert _texts(history) == ["q0", "a0", "b0", "q1", "a1", "b1"]
        newest, token = await sidecar.items(session, size=2, messages_before=mine.offset)
        assert _texts(newest) == ["a1", "b1"]
        older, _ = await sidecar.items(session, token=token, messages_before=mine.offset)
        assert _texts(older) == ["q0", "a0", "b0", "q1"]


async def test_a_token_of_another_list_is_refused(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await _talk(sidecar, 2)
        _, token = await sidecar.items(session, size=1)
        with pytest.raises(InvalidArgument):
            await sidecar.items(session, token=token, messages_before=1)
        other = await sidecar.open()
        with pytest.raises(InvalidArgument):
            await sidecar.items(other, token=token)


async def test_the_log_is_read_from_an_offset_in_pages_of_count_and_bytes(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await _talk(sidecar, 3)
        number = await sidecar.number(session)
        whole = offsets(await sidecar.log(session))
        for limit, max_bytes in ((1, PAGE), (4, PAGE), (100, 500), (100, 1)):
            found: list[int] = []
            while page := await sidecar.read(
                log_reads.events_after, number, found[-1] if found else 0, limit, max_bytes
            ):
                assert len(page) <= limit
                assert len(page) == 1 or sum(len(entry.data) for entry in page) <= max_bytes
                found.extend(entry.offset for entry in page)
            assert found == whole


async def test_sessions_are_listed_by_their_newest_message_in_pages(store: Store) -> None:
    async with store.sidecar() as sidecar:
        sessions = [await sidecar.open(f"Nr. {n}") for n in range(5)]
        for index in (3, 0, 2):
            await sidecar.say(sessions[index], "hello")
        order = [sessions[n] for n in (2, 0, 3, 4, 1)]
        for size in (1, 2, 5):
            found: list[str] = []
            token = ""
            while not found or token:
                page, token = await sidecar.read(
                    session_reads.list_sessions, sidecar.app, "web:ada", "", size, token
                )
                assert 0 < len(page) <= size
                found.extend(session.session_id for session in page)
            assert found == order
        page, _ = await sidecar.read(
            session_reads.list_sessions, sidecar.app, "web:ada", "nR. 4", 10, ""
        )
        assert [session.session_id for session in page] == [sessions[4]]


async def test_a_persons_sessions_are_nobody_elses(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await sidecar.open()
        bob = Person(sidecar.app, "support", "web:bob")
        with pytest.raises(NotFound):
            await sidecar.say(session, "not mine", person=bob)
        with pytest.raises(NotFound):
            await sidecar.read(session_reads.own_session, sidecar.app, session, "web:bob")
        found = await sidecar.read(session_reads.list_sessions, sidecar.app, "web:bob", "", 10, "")
        assert found == ([], "")
        other = await sidecar.of_app("other")
        with pytest.raises(NotFound):
            await other.say(session, "not mine")
        with pytest.raises(NotFound):
            await other.number(session)


async def test_all_sessions_of_a_person_are_read_in_the_order_of_positions(store: Store) -> None:
    async with store.sidecar() as sidecar:
        sessions = [await sidecar.open() for _ in range(3)]
        bobs = Person(sidecar.app, "support", "web:bob")
        await sidecar.open(person=bobs)
        for session in sessions * 2:
            await sidecar.say(session, "hello")
        await sidecar.delete(sessions[1])
        told = [
            entry.position
            for entry in sidecar.told.appended
            if entry.session.user == 1 and (entry.session.key != sessions[1] or not entry.offset)
        ]
        found: list[int] = []
        while page := await sidecar.read(
            log_reads.user_events_after, 1, found[-1] if found else 0, 2
        ):
            found.extend(entry.position for entry in page)
        assert found == told
        last = await sidecar.read(log_reads.last_position, sidecar.app)
        assert last == told[-1]


async def test_all_sessions_of_a_channel_are_read_in_the_order_of_positions(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        people = [
            Person(sidecar.app, "support", identity)
            for identity in ("web:ada", "web:bob", "web_2:ada", "webby:ada", "tele:ada")
        ]
        other = await sidecar.of_app("other")
        await other.open()
        for _ in range(2):
            await asyncio.gather(*(sidecar.open(person=person) for person in people))
        until = await sidecar.read(log_reads.last_position, sidecar.app)
        found: list[log_reads.LogEvent] = []
        place = 0
        while place < until:
            page, place = await sidecar.read(
                log_reads.channel_events_after, sidecar.app, "web", place, until, 3
            )
            found.extend(page)
        told = [
            entry.position
            for entry in sidecar.told.appended
            if entry.session.channel == "web" and entry.session.app == sidecar.app
        ]
        assert [entry.position for entry in found] == told
        assert len(told) == 4

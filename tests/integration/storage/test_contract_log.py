"""The log: offsets without gaps, positions in the order of commits, failures that fail alone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from capsule_sidecar.model.errors import InvalidArgument, NotFound
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import apps, encoding, log_reads, schema
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import Sidecar, Store, offsets


async def _turn(sidecar: Sidecar) -> tuple[str, Lease]:
    """Returns a session and the lease of a turn that runs in it."""
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1)


async def test_concurrent_writers_leave_no_gap_in_any_sessions_offsets(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(free=100)
        sessions = [await sidecar.open() for _ in range(4)]
        sent = await asyncio.gather(*(sidecar.say(s, "hello") for s in sessions))
        turns = [Lease(answer.ids[1], 1) for answer in sent]
        await asyncio.gather(
            *(sidecar.reply(turn, f"answer {n}") for n in range(50) for turn in turns)
        )
        for session in sessions:
            events = await sidecar.log(session)
            assert offsets(events) == list(range(1, len(events) + 1))
            texts = [e.message_added.message.text for e in events if e.HasField("message_added")]
            assert texts == ["hello", *(f"answer {n}" for n in range(50))]


async def test_positions_increase_in_the_order_of_commits_over_all_apps(store: Store) -> None:
    async with store.sidecar() as sidecar:
        other = await sidecar.journal.submit(0, lambda unit: apps.make_app(unit, "other"))
        people = [sidecar.ada, Person(other, "other", "web:bob")]
        sessions = [await sidecar.open(person=person) for person in people]
        await asyncio.gather(
            *(
                sidecar.say(session, f"{n}", person=person)
                for n in range(4)
                for person, session in zip(people, sessions, strict=True)
            )
        )
        told = [entry.position for entry in sidecar.told.appended]
        assert len(told) == 2 * 5
        assert all(before < after for before, after in pairwise(told))
        assert [entry.session.app for entry in sidecar.told.appended[2:]] == [
            sidecar.app,
            other,
        ] * 4


async def test_what_the_loop_is_told_is_what_the_log_holds(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.reply(lease, "an answer")
        await sidecar.finish(lease)
        number = await sidecar.number(session)
        stored = await sidecar.read(log_reads.events_after, number, 0, 100, 1 << 40)
        assert [entry.data for entry in sidecar.told.appended] == [e.data for e in stored]


async def test_a_reopened_journal_goes_on_where_it_was(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await sidecar.open()
        await sidecar.say(session, "first")
        before = await sidecar.log(session)
    async with store.sidecar() as sidecar:
        await sidecar.say(session, "second")
        after = await sidecar.log(session)
        assert after[:-1] == before
        assert offsets(after) == [1, 2, 3]
        assert after[-1].position > before[-1].position


async def test_an_operation_that_is_refused_fails_alone(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        good, bad, better = (
            sidecar.reply(lease, "one"),
            sidecar.say("ses_unknown", "hello"),
            sidecar.reply(lease, "two"),
        )
        assert (await good).offset == 4
        with pytest.raises(NotFound):
            await bad
        assert (await better).offset == 5
        assert await sidecar.texts(session) == ["hello", "one", "two"]


async def test_an_operation_that_refuses_after_it_wrote_is_undone_alone(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)

        def late(unit: Unit) -> None:
            row = unit.session(session, sidecar.app)
            unit.append(row, encoding.session_updated("never seen"))
            raise InvalidArgument("title", "is refused too late")

        futures = (sidecar.reply(lease, "one"), sidecar.do(late), sidecar.reply(lease, "two"))
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(found[1], InvalidArgument)
        events = await sidecar.log(session)
        assert offsets(events) == [1, 2, 3, 4, 5]
        assert await sidecar.texts(session) == ["hello", "one", "two"]
        assert "session_updated" not in await sidecar.kinds(session)


async def test_an_operation_with_a_defect_fails_alone(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)

        def defect(unit: Unit) -> None:
            unit.append(unit.session(session, sidecar.app), encoding.session_updated("never seen"))
            raise ZeroDivisionError

        futures = (sidecar.reply(lease, "one"), sidecar.do(defect), sidecar.reply(lease, "two"))
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(found[1], ZeroDivisionError)
        assert offsets(await sidecar.log(session)) == [1, 2, 3, 4, 5]
        assert await sidecar.texts(session) == ["hello", "one", "two"]


async def test_an_operation_that_the_database_refuses_fails_alone(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)

        def twice(unit: Unit) -> None:
            unit.execute(schema.apps.insert().values(id=sidecar.app, name="again", position=0))

        futures = (sidecar.reply(lease, "one"), sidecar.do(twice), sidecar.reply(lease, "two"))
        found = await asyncio.gather(*futures, return_exceptions=True)
        assert type(found[1]).__name__ == "IntegrityError"
        assert sidecar.journal.healthy
        assert await sidecar.texts(session) == ["hello", "one", "two"]


async def test_work_of_a_group_that_fails_is_leased_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(free=1)
        session = await sidecar.open()
        other = await sidecar.open()

        def defect(_: Unit) -> None:
            raise ZeroDivisionError

        futures = (sidecar.say(session, "hello"), sidecar.do(defect), sidecar.say(other, "hello"))
        sent, _, queued = await asyncio.gather(*futures, return_exceptions=True)
        assert not isinstance(sent, BaseException)
        assert not isinstance(queued, BaseException)
        assert sidecar.held == [Lease(sent.ids[1], 1)]
        await sidecar.finish(sidecar.held[0])
        assert sidecar.held[1:] == [Lease(queued.ids[1], 1)]

"""Two sidecars on one PostgreSQL database: one log, one queue."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, closing
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import Connection, select, text

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model.errors import NotFound, StorageUnavailable, Superseded
from capsule_sidecar.model.types import Answer, InvocationStatus, Lease
from capsule_sidecar.storage import apps, leases, log_reads, offers, schema
from capsule_sidecar.storage.database import PostgreSQL
from capsule_sidecar.storage.migrate import migrate
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.asking import answer, ask, free
from tests.integration.storage.store import TERMS, Sidecar, Store, offsets, request_key
from tests.support.eventually import eventually


async def _two(stack: AsyncExitStack, store: Store) -> tuple[Sidecar, Sidecar]:
    first = await stack.enter_async_context(store.sidecar())
    return first, await stack.enter_async_context(store.sidecar())


async def test_both_append_to_one_session_without_a_gap(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        await first.attach()
        session = await first.open()
        sent = await second.say(session, "hello")
        await first.do(lambda unit: _take(unit, first))
        lease = Lease(sent.ids[1], 1)
        await asyncio.gather(
            *(side.reply(lease, f"{n}") for n in range(100) for side in (first, second))
        )
        events = await second.log(session)
        assert offsets(events) == list(range(1, len(events) + 1))
        assert len(events) == 203
        assert all(a.position < b.position for a, b in pairwise(events))


def _take(unit: Unit, sidecar: Sidecar) -> None:
    (process,) = sidecar.slots.processes(sidecar.app)
    offers.lease_ready(unit, sidecar.app, process)


async def test_no_number_is_given_twice(postgres_store: Store) -> None:
    begun = threading.Barrier(4)

    def reserve() -> list[int]:
        found: list[int] = []
        with (
            closing(postgres_store.database()) as database,
            database.engine.connect() as connection,
        ):
            cursor = connection.connection.cursor()
            begun.wait(30)
            for count in range(400):
                database.begin(cursor, [])
                for times in (1, 1, count % 7 + 1):
                    found += database.numbers(cursor, "events", "position", times)
                cursor.execute("ROLLBACK")
        return found

    each = await asyncio.gather(*(asyncio.to_thread(reserve) for _ in range(4)))
    given = [number for found in each for number in found]
    assert len(set(given)) == len(given)
    assert all(found == sorted(found) for found in each)


async def test_both_open_sessions_at_once(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        other = await second.of_app("other")
        keys = await asyncio.gather(
            *(side.open(f"{n}") for n in range(200) for side in (first, second, other))
        )
        assert len(set(keys)) == 600
        rows = await first.rows()
        assert (rows["sessions"], rows["invocations"], rows["events"]) == (600, 600, 600)


async def test_a_reader_at_the_newest_position_of_its_app_has_missed_nothing(
    postgres_store: Store,
) -> None:
    """Both write to two apps; a reader of each looks all the while.

    What it has seen up to a newest position stays all there is up to it.
    """
    async with AsyncExitStack() as stack:
        sides = list(await _two(stack, postgres_store))
        sides += [await side.of_app("other") for side in sides]
        done = False
        looks = 0

        async def look(app: int) -> None:
            nonlocal looks
            seen: dict[int, list[int]] = {}

            def snapshot(connection: Connection) -> tuple[int, list[int]]:
                last = log_reads.last_position(connection, app)
                column = schema.events.c.position
                rows = connection.execute(
                    select(column).where(schema.events.c.app == app).order_by(column)
                ).scalars()
                return last, list(rows)

            while not done:
                last, found = await sides[0].journal.read(snapshot)
                assert found[-1:] in ([], [last])
                seen[last] = found
                looks += 1
            _, whole = await sides[0].journal.read(snapshot)
            for last, found in seen.items():
                assert found == [position for position in whole if position <= last]

        readers = [asyncio.create_task(look(side.app)) for side in sides[1:3]]
        for _ in range(30):
            await asyncio.gather(*(side.open() for side in sides for _ in range(5)))
        done = True
        await asyncio.gather(*readers)
        assert looks > 10


async def test_a_group_waits_for_the_others_group_of_its_app_and_of_no_other(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        third = await stack.enter_async_context(postgres_store.sidecar(app="other"))
        held, go_on = threading.Event(), threading.Event()

        def slow(_: Unit) -> None:
            held.set()
            assert go_on.wait(30)

        holding = first.do(slow)
        await asyncio.to_thread(held.wait, 30)
        opening = asyncio.ensure_future(second.open())
        await eventually(lambda: third.read(_waiting_for_a_lock))
        await third.open()
        assert not opening.done()
        go_on.set()
        await holding
        await opening


def _waiting_for_a_lock(connection: Connection) -> int:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(connection.execute(waiting).scalar_one())


async def test_a_lease_that_the_other_swept_is_fenced(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        found = await first.attach()
        session = await first.open()
        sent = await first.say(session, "hello")
        lease = Lease(sent.ids[1], 1)
        await first.reply(lease, "mine")
        await second.lose_leases()
        await second.attach("p2")
        assert second.held == [Lease(lease.invocation_id, 2)]
        with pytest.raises(Superseded):
            await first.reply(lease, "still mine?")
        with pytest.raises(NotFound):
            await first.beat(found.process)
        assert await first.finish(lease) == InvocationStatus.RUNNING
        await second.finish(second.held[-1])
        assert await first.texts(session) == ["hello", "mine"]


async def test_a_beat_to_one_keeps_the_lease_from_the_others_sweep(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        found = await first.attach()
        session = await first.open()
        sent = await first.say(session, "hello")
        for _ in range(20):
            postgres_store.clock.advance(2_000)
            await asyncio.gather(first.beat(found.process), second.sweep())
        await first.reply(Lease(sent.ids[1], 1), "still mine")


async def test_a_beat_that_is_being_committed_is_seen_by_the_others_sweep(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        found = await first.attach()
        session = await first.open()
        sent = await first.say(session, "hello")
        for _ in range(TERMS.lease_ms // 1_000 - 5):
            postgres_store.clock.advance(1_000)
            await second.sweep()
        postgres_store.clock.advance(6_000)
        held, go_on = threading.Event(), threading.Event()

        def beat(unit: Unit) -> None:
            leases.beat(unit, found.process)
            unit.flush()
            held.set()
            assert go_on.wait(30)

        beating = first.do(beat)
        await asyncio.to_thread(held.wait, 30)
        sweeping = second.sweep()
        await eventually(lambda: second.read(_waiting_for_a_lock))
        go_on.set()
        await beating
        await sweeping
        await first.reply(Lease(sent.ids[1], 1), "still mine")


async def test_ready_work_is_leased_by_one_of_the_two(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        sessions = [await first.open() for _ in range(20)]
        await asyncio.gather(*(first.say(session, "hello") for session in sessions))
        await asyncio.gather(first.attach("p1", free=20), second.attach("p2", free=20))
        held = first.held + second.held
        assert len(held) == len(set(held)) == 20
        assert {lease.attempt for lease in held} == {1}


async def test_a_prompt_is_answered_once_by_whichever_of_the_two(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        await first.attach()
        session = await first.open()
        lease = Lease((await first.say(session, "hello")).ids[1], 1)
        for number in range(20):
            prompt, key = await ask(first, lease, f"{number}?"), request_key()
            found = await asyncio.gather(
                *(answer(side, prompt, key=key) for side in (first, second)),
                *(answer(side, prompt, Answer()) for side in (first, second)),
            )
            assert len({end.SerializeToString() for end, _ in found}) == 1
            accepted = [done for _, done in found]
            # One request that both got, or one of the others.
            assert accepted in (
                [True, True, False, False],
                [False, False, True, False],
                [False, False, False, True],
            )
        ends = [kind for kind in await first.kinds(session) if kind == "prompt_ended"]
        assert len(ends) == 20
        assert len([n for side in (first, second) for n in side.told.notices if n.resolved]) == 20


async def test_whoever_asked_is_told_of_the_others_answer_on_attaching_and_has_its_places(
    postgres_store: Store,
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        process = (await first.attach(free=2)).process
        leases, prompts = [], []
        for _ in range(2):
            sent = await first.say(await first.open(), "hello")
            leases.append(Lease(sent.ids[1], 1))
            prompts.append(await ask(first, leases[-1], timeout_ms=10_000))
        end, accepted = await answer(second, prompts[0])
        assert accepted
        postgres_store.clock.advance(10_000)
        await second.sweep()
        # Nobody tells this sidecar: it counts anew when its process attaches.
        assert free(first, process) == 2
        found = await first.attach(free=2, claims=tuple(leases))
        told = [types_pb2.Prompt.FromString(ended.prompt) for ended in found.resolved]
        assert [prompt.prompt_id for prompt in told] == [p.prompt_id for p in prompts]
        assert told[0] == end
        assert told[1].status == types_pb2.PROMPT_STATUS_EXPIRED
        assert found.held == 2
        assert free(first, process) == 0
        for lease in leases:
            await first.finish(lease)
        assert free(first, process) == 2


async def test_a_request_id_is_known_to_both(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        session = await first.open()
        for _ in range(20):
            key = request_key()
            one, two = await asyncio.gather(
                first.say(session, "hello", key=key), second.say(session, "hello", key=key)
            )
            assert one == two
            await first.stop(session, one.ids[1])
        assert await first.texts(session) == ["hello"] * 20


async def test_what_one_deleted_is_gone_for_the_other(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        first, second = await _two(stack, postgres_store)
        session = await first.open()
        await first.say(session, "hello")
        await second.delete(session)
        with pytest.raises(NotFound):
            await first.say(session, "still there?")


async def test_both_make_an_app_at_once_and_it_is_one(postgres_store: Store) -> None:
    async with AsyncExitStack() as stack:
        sides = await _two(stack, postgres_store)
        for name in ("one", "two", "three"):
            found = await asyncio.gather(
                *(side.journal.submit(0, partial(apps.make_app, name=name)) for side in sides)
            )
            assert found[0] == found[1]


async def test_a_migration_waits_for_the_others(empty_postgres: str) -> None:
    with (
        closing(PostgreSQL(empty_postgres)) as first,
        closing(PostgreSQL(empty_postgres)) as second,
    ):
        with first.engine.connect() as connection, first.engine.connect() as watcher:
            first.begin_migration(connection)
            migrating = asyncio.create_task(asyncio.to_thread(migrate, second))
            await eventually(lambda: _waiting_for_a_lock(watcher))
            assert not migrating.done()
            connection.exec_driver_sql("COMMIT")
            await migrating
            assert watcher.execute(text("SELECT count(*) FROM apps")).scalar() == 0


async def test_a_sidecar_whose_connections_were_cut_goes_on(postgres_store: Store) -> None:
    async with postgres_store.sidecar() as sidecar:
        session = await sidecar.open()
        await sidecar.say(session, "before")
        other = postgres_store.database()
        with closing(other), other.engine.connect() as connection:
            others = text(
                "SELECT pid FROM pg_stat_activity WHERE"
                " datname = current_database() AND pid <> pg_backend_pid()"
            )
            cut = list(connection.execute(others).scalars())
            connection.execute(text("SELECT pg_terminate_backend(unnest(:cut))"), {"cut": cut})
            # They are told to end, and do so when they get to it.
            await eventually(lambda: not {*cut} & {*connection.execute(others).scalars()})
        key = request_key()
        with pytest.raises(StorageUnavailable):
            await sidecar.say(session, "lost on the way", key=key)
        healthy = [sidecar.journal.healthy]
        sent = await sidecar.say(session, "lost on the way", key=key)
        healthy.append(sidecar.journal.healthy)
        assert healthy == [False, True]
        assert sent.offset == 3
        for _ in range(2):  # a connection for each thread that reads
            try:
                await sidecar.read(log_reads.last_position, sidecar.app)
            except StorageUnavailable:
                continue
        assert await sidecar.texts(session) == ["before", "lost on the way"]

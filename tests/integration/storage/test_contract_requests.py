"""Request ids: a retry gets the first committed answer, whatever has happened since."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from capsule_sidecar.model.errors import (
    InvocationEnded,
    LimitExceeded,
    NotFound,
    RequestIdReused,
)
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import leases
from capsule_sidecar.storage.people import Person
from tests.integration.storage.store import TERMS, Sidecar, Store, request_key


async def _turn(sidecar: Sidecar) -> tuple[str, Lease]:
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1)


async def _sweep_requests(sidecar: Sidecar, rows: int = 1_000) -> None:
    place: tuple[int, bytes] | None = (-1, b"")
    while place is not None:
        place = await sidecar.journal.submit(
            0, partial(leases.forget_requests, after=place, rows=rows)
        )


async def test_a_message_sent_again_is_answered_the_same_and_not_doubled(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, _ = await _turn(sidecar)
        key = request_key()
        first = await sidecar.say(session, "again?", key=key)
        assert await sidecar.say(session, "again?", key=key) == first
        assert await sidecar.texts(session) == ["hello", "again?"]


async def test_a_message_sent_twice_at_once_is_one(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, _ = await _turn(sidecar)
        key = request_key()
        first, second = await asyncio.gather(
            sidecar.say(session, "again?", key=key), sidecar.say(session, "again?", key=key)
        )
        assert first == second
        assert await sidecar.texts(session) == ["hello", "again?"]


async def test_a_retry_after_a_restart_is_answered_the_same(store: Store) -> None:
    opening, sending, replying = request_key(), request_key(), request_key()
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open("a title", key=opening)
        sent = await sidecar.say(session, "hello", key=sending)
        lease = Lease(sent.ids[1], 1)
        replied = await sidecar.reply(lease, "an answer", key=replying)
    async with store.sidecar() as sidecar:
        assert await sidecar.open("a title", key=opening) == session
        assert await sidecar.say(session, "hello", key=sending) == sent
        assert await sidecar.reply(lease, "an answer", key=replying) == replied
        assert await sidecar.texts(session) == ["hello", "an answer"]
        assert (await sidecar.rows())["sessions"] == 1


async def test_a_retry_is_answered_before_attempt_and_end_are_checked(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await _turn(sidecar)
        key = request_key()
        replied = await sidecar.reply(lease, "an answer", key=key)
        await sidecar.finish(lease)
        assert await sidecar.reply(lease, "an answer", key=key) == replied
        with pytest.raises(InvocationEnded):
            await sidecar.reply(lease, "an answer")


async def test_a_request_id_with_other_content_is_refused(store: Store) -> None:
    key = request_key()
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.reply(lease, "one", key=key)
        with pytest.raises(RequestIdReused):
            await sidecar.reply(lease, "two", key=key)
        again, other = sidecar.reply(lease, "x", key=key), sidecar.reply(lease, "beside it")
        with pytest.raises(RequestIdReused):
            await again
        assert (await other).offset == 5
    async with store.sidecar() as sidecar:
        with pytest.raises(RequestIdReused):
            await sidecar.reply(lease, "two", key=key)
        assert await sidecar.texts(session) == ["hello", "one", "beside it"]


async def test_a_request_id_used_twice_at_once_with_other_content_is_refused(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        key = request_key()
        first, second = sidecar.reply(lease, "one", key=key), sidecar.reply(lease, "two", key=key)
        await first
        with pytest.raises(RequestIdReused):
            await second
        assert await sidecar.texts(session) == ["hello", "one"]


async def test_a_request_id_is_its_persons_and_its_methods_own(store: Store) -> None:
    async with store.sidecar() as sidecar:
        bob = Person(sidecar.app, "support", "web:bob")
        key = request_key()
        mine, his = await sidecar.open(key=key), await sidecar.open(key=key, person=bob)
        assert mine != his
        await sidecar.say(mine, "hello", key=key)
        await sidecar.say(his, "hello", key=key, person=bob)
        assert await sidecar.texts(mine) == await sidecar.texts(his) == ["hello"]


async def test_a_refused_request_may_be_sent_again(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await asyncio.gather(*(sidecar.say(session, f"{n}") for n in range(TERMS.max_waiting)))
        key = request_key()
        with pytest.raises(LimitExceeded):
            await sidecar.say(session, "one more", key=key)
        await sidecar.finish(lease)
        await sidecar.say(session, "one more", key=key)
        assert (await sidecar.texts(session))[-1] == "one more"


async def test_request_ids_are_forgotten_after_their_retention(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        key = request_key()
        await sidecar.reply(lease, "an answer", key=key)
        await sidecar.finish(lease)
        store.clock.advance(TERMS.request_retention_ms - 60_000)
        await _sweep_requests(sidecar, rows=2)
        assert (await sidecar.rows())["requests"] == 3
        await sidecar.say(session, "a day later")
        store.clock.advance(120_000)
        await _sweep_requests(sidecar, rows=2)
        assert (await sidecar.rows())["requests"] == 1
        with pytest.raises(InvocationEnded):
            await sidecar.reply(lease, "an answer", key=key)


async def test_what_an_unfinished_invocation_asked_for_is_kept_beyond(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await _turn(sidecar)
        key = request_key()
        replied = await sidecar.reply(lease, "an answer", key=key)
        store.clock.advance(TERMS.request_retention_ms + 60_000)
        await _sweep_requests(sidecar)
        assert (await sidecar.rows())["requests"] == 1
        assert await sidecar.reply(lease, "an answer", key=key) == replied


async def test_a_deleted_sessions_request_ids_answer_only_the_deletion(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, _ = await _turn(sidecar)
        key = request_key()
        deleted = await sidecar.delete(session, key=key)
        assert await sidecar.delete(session, key=key) == deleted
        with pytest.raises(NotFound):
            await sidecar.delete(session)

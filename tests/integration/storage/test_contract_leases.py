"""Leases: kept by beats, ended by the sweep, fenced by the attempt."""

from __future__ import annotations

import pytest

from capsule_sidecar.model.errors import InvocationEnded, NotFound, Superseded
from capsule_sidecar.model.types import (
    CancelReason,
    InvocationStatus,
    Lease,
    OutcomeStatus,
)
from tests.integration.storage.store import TERMS, Sidecar, Store


async def _turn(sidecar: Sidecar, free: int = 10) -> tuple[str, Lease, int]:
    """Returns a session, the lease of a turn that runs in it, and who holds it."""
    found = await sidecar.attach(free=free)
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1), found.process


async def test_work_of_a_process_that_is_gone_is_delivered_again(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, process = await _turn(sidecar)
        other = await sidecar.attach("p2")
        sidecar.slots.detach(process, sidecar)
        for _ in range(16):
            store.clock.advance(1_000)
            await sidecar.beat(other.process)
            await sidecar.sweep()
        assert sidecar.held == [lease, Lease(lease.invocation_id, 2)]
        assert sidecar.told.leased[-1].process == other.process
        lost = [n for n in sidecar.told.notices if n.process == process]
        assert [(n.attempt, n.cancel, n.final) for n in lost] == [
            (1, CancelReason.SUPERSEDED, True)
        ]


async def test_a_superseded_attempt_writes_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, _ = await _turn(sidecar)
        opened = await sidecar.stream(lease)
        assert await sidecar.taken_over() == Lease(lease.invocation_id, 2)
        before = await sidecar.log(session)
        for refused in (
            sidecar.reply(lease, "zombie"),
            sidecar.show(lease),
            sidecar.title(lease, "zombie"),
            sidecar.patch(lease, {"zombie": b"1"}),
            sidecar.stream(lease),
            sidecar.complete(lease, opened.answer.ids[0], "zombie"),
        ):
            with pytest.raises(Superseded):
                await refused
        assert await sidecar.finish(lease) == InvocationStatus.RUNNING
        assert await sidecar.log(session) == before
        assert await sidecar.finish(sidecar.held[-1]) == InvocationStatus.COMPLETED


async def test_beats_keep_a_lease(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, process = await _turn(sidecar)
        for _ in range(20):
            store.clock.advance(2_000)
            await sidecar.beat(process)
            await sidecar.sweep()
        assert sidecar.held == [lease]
        await sidecar.reply(lease, "still mine")


async def test_until_it_is_swept_a_late_lease_may_write_and_be_renewed(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, process = await _turn(sidecar)
        for _ in range(TERMS.lease_ms // 1_000 - 5):
            store.clock.advance(1_000)
            await sidecar.sweep()
        store.clock.advance(6_000)
        await sidecar.reply(lease, "just in time")
        await sidecar.beat(process)
        await sidecar.sweep()
        assert sidecar.held == [lease]


async def test_a_beat_after_the_leases_ended_is_refused(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, _, process = await _turn(sidecar)
        await sidecar.lose_leases()
        with pytest.raises(NotFound):
            await sidecar.beat(process)


async def test_an_invocation_fails_after_so_many_lost_attempts_and_is_kept(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, _ = await _turn(sidecar)
        for attempt in range(1, TERMS.max_attempts + 1):
            assert sidecar.held[-1].attempt == attempt
            await sidecar.taken_over(f"p{attempt + 1}")
        assert len(sidecar.held) == TERMS.max_attempts
        row = await sidecar.invocation(lease.invocation_id)
        assert row["status"] == InvocationStatus.FAILED
        assert (row["reason"], row["losses"]) == ("ATTEMPTS_EXHAUSTED", TERMS.max_attempts)
        ends = [e.invocation_ended for e in await sidecar.log(session)][-1]
        assert (ends.reason, ends.attempts) == ("ATTEMPTS_EXHAUSTED", TERMS.max_attempts)
        with pytest.raises(InvocationEnded):
            await sidecar.reply(sidecar.held[-1], "too late")


async def test_attempts_that_are_given_back_do_not_count(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, _ = await _turn(sidecar, free=1)
        for _ in range(2 * TERMS.max_attempts):
            lease = await sidecar.given_back(lease)
        assert lease.attempt == 2 * TERMS.max_attempts + 1
        assert (await sidecar.invocation(lease.invocation_id))["losses"] == 0
        await sidecar.reply(lease, "at last")
        assert await sidecar.finish(lease) == InvocationStatus.COMPLETED


async def test_a_late_sweep_gives_a_new_term_and_what_is_lost_in_it_does_not_count(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        _, lease, _ = await _turn(sidecar)
        store.clock.advance(300_000)
        await sidecar.sweep()
        assert sidecar.held == [lease]
        await sidecar.reply(lease, "after the machine slept")
        assert await sidecar.taken_over() == Lease(lease.invocation_id, 2)
        assert (await sidecar.invocation(lease.invocation_id))["losses"] == 0


async def test_a_sweep_in_time_gives_no_new_term(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, _ = await _turn(sidecar)
        for _ in range(TERMS.lease_ms // 2_500 + 1):
            store.clock.advance(2_500)
            await sidecar.sweep()
        assert (await sidecar.invocation(lease.invocation_id))["losses"] == 1


async def test_a_clock_that_goes_back_ends_no_lease(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, process = await _turn(sidecar)
        await sidecar.sweep()
        store.clock.advance(-3_600_000)
        for _ in range(30):
            store.clock.advance(1_000)
            await sidecar.beat(process)
            await sidecar.sweep()
        assert sidecar.held == [lease]


async def test_leases_outlive_the_sidecar(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, _ = await _turn(sidecar)
    async with store.sidecar() as sidecar:
        store.clock.advance(60_000)
        await sidecar.sweep()
        found = await sidecar.attach(claims=(lease,))
        assert (found.kept, found.superseded, found.missing) == ([lease], [], [])
        await sidecar.reply(lease, "an answer")
        assert await sidecar.finish(lease) == InvocationStatus.COMPLETED
        assert await sidecar.texts(session) == ["hello", "an answer"]


async def test_a_process_that_attaches_again_is_told_what_it_kept_lost_and_missed(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        sessions = [await sidecar.open() for _ in range(3)]
        sent = [await sidecar.say(session, "hello") for session in sessions]
        kept, missed, ended = [Lease(answer.ids[1], 1) for answer in sent]
        await sidecar.finish(ended)
        unknown = Lease("inv_unknown", 1)
        found = await sidecar.attach(claims=(kept, ended, unknown))
        assert found.kept == [kept]
        assert found.superseded == [ended, unknown]
        assert [Lease(m.invocation.key, m.attempt) for m in found.missing] == [missed]
        assert found.held == 2


async def test_work_that_is_given_back_with_nobody_free_waits(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, process = await _turn(sidecar)
        sidecar.slots.drain(process)
        assert await sidecar.finish(lease, OutcomeStatus.RELEASED) == InvocationStatus.QUEUED
        with pytest.raises(Superseded):
            await sidecar.reply(lease, "not mine any more")
        await sidecar.attach("p2")
        assert sidecar.held == [lease, Lease(lease.invocation_id, 2)]

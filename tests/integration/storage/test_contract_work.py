"""The work queue: lanes, stops, deadlines, ends."""

from __future__ import annotations

import asyncio

import pytest

from capsule_sidecar.model.errors import (
    InvocationEnded,
    LimitExceeded,
    NotFound,
    SessionClosed,
    Superseded,
)
from capsule_sidecar.model.types import (
    CancelReason,
    Declarations,
    InvocationStatus,
    Lease,
    OutcomeStatus,
)
from capsule_sidecar.storage import session_reads
from tests.integration.storage.store import EVERYTHING, TERMS, Sidecar, Store


async def _ends(sidecar: Sidecar, session: str) -> list[tuple[str, int, str]]:
    """Returns what ended in a session, in order: invocation, status, reason."""
    return [
        (event.invocation_id, event.invocation_ended.status, event.invocation_ended.reason)
        for event in await sidecar.log(session)
        if event.HasField("invocation_ended")
    ]


async def test_one_invocation_of_a_session_runs_at_a_time_in_order_of_arrival(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await asyncio.gather(*(sidecar.say(session, f"{n}") for n in range(4)))
        for number, answer in enumerate(sent):
            assert sidecar.held[number:] == [Lease(answer.ids[1], 1)]
            await sidecar.finish(sidecar.held[-1])
        assert [key for key, _, _ in (await _ends(sidecar, session))[1:]] == [
            answer.ids[1] for answer in sent
        ]


async def test_sessions_do_not_wait_for_each_other(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        sessions = [await sidecar.open() for _ in range(3)]
        sent = [await sidecar.say(session, "hello") for session in sessions]
        assert [lease.invocation_id for lease in sidecar.held] == [answer.ids[1] for answer in sent]


async def test_a_process_is_given_no_more_than_it_has_places(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(free=1)
        sessions = [await sidecar.open() for _ in range(3)]
        sent = [await sidecar.say(session, "hello") for session in sessions]
        for number, answer in enumerate(sent):
            assert sidecar.held[number:] == [Lease(answer.ids[1], 1)]
            await sidecar.finish(sidecar.held[-1])


async def test_work_that_waited_for_a_process_is_leased_oldest_first(store: Store) -> None:
    async with store.sidecar() as sidecar:
        sessions = [await sidecar.open() for _ in range(3)]
        sent = [await sidecar.say(session, "hello") for session in sessions]
        await sidecar.attach()
        assert [lease.invocation_id for lease in sidecar.held] == [answer.ids[1] for answer in sent]


async def test_what_nobody_declares_ends_unhandled_and_the_lane_goes_on(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        first = await sidecar.say(session, "hello")
        clicked = await sidecar.click(session)
        second = await sidecar.say(session, "and?")
        await sidecar.finish(sidecar.held[-1])
        assert await sidecar.status(clicked.ids[0]) == InvocationStatus.UNHANDLED
        assert sidecar.held == [Lease(first.ids[1], 1), Lease(second.ids[1], 1)]
        assert (clicked.ids[0], InvocationStatus.UNHANDLED, "NO_HANDLER") in await _ends(
            sidecar, session
        )


async def test_what_nobody_declares_waits_while_the_app_has_no_process(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await sidecar.open()
        clicked = await sidecar.click(session)
        assert await sidecar.status(clicked.ids[0]) == InvocationStatus.QUEUED
        await sidecar.attach(takes=EVERYTHING)
        (entered,) = sidecar.held
        await sidecar.finish(entered)
        assert sidecar.held[1:] == [Lease(clicked.ids[0], 1)]


async def test_a_message_waits_for_a_process_that_declares_messages(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=Declarations(actions=frozenset({"click"})))
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        assert await sidecar.status(sent.ids[1]) == InvocationStatus.QUEUED
        await sidecar.attach("p2")
        assert sidecar.held == [Lease(sent.ids[1], 1)]


async def test_no_more_than_so_many_messages_wait_in_a_session(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        await sidecar.say(session, "runs")
        for number in range(TERMS.max_waiting):
            await sidecar.say(session, f"{number} waits")
        with pytest.raises(LimitExceeded) as refused:
            await sidecar.say(session, "too much")
        assert refused.value.metadata["limit"] == "waiting_messages"
        await sidecar.finish(sidecar.held[-1])
        await sidecar.say(session, "fits")


async def test_stopping_a_waiting_turn_ends_it_at_once_and_no_other(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        runs, waits, last = [await sidecar.say(session, text) for text in "abc"]
        answer = await sidecar.stop(session, waits.ids[1])
        assert answer.offset == InvocationStatus.STOPPED
        assert await sidecar.status(runs.ids[1]) == InvocationStatus.RUNNING
        await sidecar.finish(sidecar.held[-1])
        assert sidecar.held == [Lease(runs.ids[1], 1), Lease(last.ids[1], 1)]
        # Its place among those that wait is free again.
        await asyncio.gather(*(sidecar.say(session, "x") for _ in range(TERMS.max_waiting)))


async def test_a_turn_that_is_stopped_while_it_runs_can_only_end_stopped(store: Store) -> None:
    async with store.sidecar() as sidecar:
        found = await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        (lease,) = sidecar.held
        assert (await sidecar.stop(session, sent.ids[1])).offset == InvocationStatus.RUNNING
        (notice,) = [n for n in sidecar.told.notices if n.invocation_id == sent.ids[1]]
        assert (notice.process, notice.cancel, notice.final) == (
            found.process, CancelReason.STOPPED, False,
        )  # fmt: skip
        await sidecar.reply(lease, "what I had so far")
        assert await sidecar.finish(lease) == InvocationStatus.STOPPED
        assert (await sidecar.stop(session, sent.ids[1])).offset == InvocationStatus.STOPPED
        assert (await _ends(sidecar, session))[1:] == [
            (sent.ids[1], InvocationStatus.STOPPED, "STOPPED")
        ]


async def test_a_stopped_turn_is_fenced_when_its_grace_is_over(store: Store) -> None:
    async with store.sidecar() as sidecar:
        found = await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        waits = await sidecar.say(session, "next")
        (lease,) = sidecar.held
        await sidecar.stop(session, sent.ids[1])
        for second in range(TERMS.stop_grace_ms // 1_000):
            if second < 6:  # behind that it might be over: real time passes, too
                await sidecar.reply(lease, "still here")
            store.clock.advance(1_000)
            await sidecar.beat(found.process)
            await sidecar.sweep()
        with pytest.raises(InvocationEnded):
            await sidecar.reply(lease, "too late")
        assert await sidecar.status(sent.ids[1]) == InvocationStatus.STOPPED
        assert sidecar.held[1:] == [Lease(waits.ids[1], 1)]


async def test_a_stopped_turn_whose_process_is_gone_is_not_delivered_again(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        (lease,) = sidecar.held
        await sidecar.stop(session, sent.ids[1])
        await sidecar.lose_leases()
        assert sidecar.held == [lease]
        assert await sidecar.status(sent.ids[1]) == InvocationStatus.STOPPED


async def test_a_turn_past_its_deadline_is_cancelled_and_fails(store: Store) -> None:
    async with store.sidecar() as sidecar:
        found = await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        (lease,) = sidecar.held
        for _ in range(TERMS.turn_deadline_ms // 2_000):
            store.clock.advance(2_000)
            await sidecar.beat(found.process)
            await sidecar.sweep()
        (notice,) = [n for n in sidecar.told.notices if n.invocation_id == sent.ids[1]]
        assert (notice.cancel, notice.final) == (CancelReason.DEADLINE, False)
        await sidecar.reply(lease, "in the time of grace")
        assert await sidecar.finish(lease) == InvocationStatus.FAILED
        assert (await _ends(sidecar, session))[1:] == [
            (sent.ids[1], InvocationStatus.FAILED, "DEADLINE")
        ]


async def test_a_turn_has_one_terminal_event_however_often_its_outcome_comes(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        await sidecar.say(session, "hello")
        (lease,) = sidecar.held
        failed = OutcomeStatus.FAILED
        found = await asyncio.gather(
            sidecar.finish(lease), sidecar.finish(lease), sidecar.finish(lease, failed)
        )
        assert set(found) == {InvocationStatus.COMPLETED}
        assert await sidecar.finish(lease, failed) == InvocationStatus.COMPLETED
        assert len(await _ends(sidecar, session)) == 2


async def test_a_failed_turn_says_why_and_is_shown_in_its_place(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        assert await sidecar.finish(sidecar.held[0], OutcomeStatus.FAILED) == (
            InvocationStatus.FAILED
        )
        items, _ = await sidecar.items(session)
        ended = items[-1].invocation_ended
        assert (ended.reason, ended.reference_id[:4]) == ("HANDLER_ERROR", "ref_")
        assert items[-1].place == sent.offset


async def test_closing_a_session_queues_exit_behind_what_waits(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=EVERYTHING)
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        await sidecar.close(session)
        await sidecar.close(session)
        with pytest.raises(SessionClosed):
            await sidecar.say(session, "too late")
        with pytest.raises(SessionClosed):
            await sidecar.click(session)
        entered, _ = sidecar.held[0], await sidecar.finish(sidecar.held[0])
        assert entered.invocation_id != sent.ids[1]
        await sidecar.finish(sidecar.held[1])
        leaving = sidecar.held[2]
        await sidecar.reply(leaving, "good-bye")
        await sidecar.finish(leaving)
        assert len(sidecar.held) == 3
        assert (await sidecar.kinds(session))[-2:] == ["invocation_ended", "session_closed"]
        assert await sidecar.texts(session) == ["hello", "good-bye"]


async def test_an_invocation_is_nobodys_but_its_apps(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        await sidecar.say(session, "hello")
        (lease,) = sidecar.held
        other = await sidecar.of_app("other")
        with pytest.raises(NotFound):
            await other.reply(lease, "not mine")
        with pytest.raises(NotFound):
            await other.finish(lease)
        with pytest.raises(Superseded):
            await sidecar.reply(Lease(lease.invocation_id, 2), "not yet")


async def test_what_has_not_ended_is_listed_in_order_of_arrival(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        await sidecar.turn(session, "over")
        sent = [await sidecar.say(session, text) for text in "abcd"]
        await sidecar.stop(session, sent[2].ids[1])
        number = await sidecar.number(session)
        found = await sidecar.read(session_reads.pending, number, 100)
        assert [entry.invocation_id for entry in found] == [sent[n].ids[1] for n in (0, 1, 3)]
        assert [entry.status for entry in found] == [
            InvocationStatus.RUNNING, InvocationStatus.QUEUED, InvocationStatus.QUEUED,
        ]  # fmt: skip
        newest = await sidecar.read(session_reads.pending, number, 2)
        assert [entry.invocation_id for entry in newest] == [sent[n].ids[1] for n in (1, 3)]

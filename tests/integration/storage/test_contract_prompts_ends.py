"""What becomes of prompts when their invocation is stopped, lost, out of time, over or removed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from capsule_sidecar.model.errors import LimitExceeded, NotFound, Stopped
from capsule_sidecar.model.types import InvocationStatus, Lease, OutcomeStatus
from tests.integration.storage.asking import (
    ANSWERED,
    EXPIRED,
    MINUTE_MS,
    OPEN,
    WITHDRAWN,
    acknowledge,
    answer,
    ask,
    folded,
    open_prompts,
    shown,
    statuses,
    submit,
    told,
    turn,
)
from tests.integration.storage.store import TERMS, Store, request_key


async def test_a_stop_withdraws_tells_nobody_and_takes_no_more_questions(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompts = [await ask(sidecar, lease, text) for text in "ab"]
        await answer(sidecar, prompts[0])
        await sidecar.stop(session, lease.invocation_id)
        assert (await sidecar.kinds(session))[-2:] == ["stop_requested", "prompt_ended"]
        assert await statuses(sidecar, session) == [ANSWERED, WITHDRAWN]
        assert told(sidecar, prompts[1]) == []
        for text in ("a", "c"):
            with pytest.raises(Stopped):
                await ask(sidecar, lease, text)
        end, accepted = await answer(sidecar, prompts[1])
        assert (accepted, end.status) == (False, WITHDRAWN)
        row = await sidecar.invocation(lease.invocation_id)
        assert (row["prompts"], row["left_ms"]) == (0, 0)
        # Its grace ends it: it waits for nobody.
        store.clock.advance(TERMS.stop_grace_ms)
        await sidecar.sweep()
        assert await sidecar.status(lease.invocation_id) == InvocationStatus.STOPPED
        assert await folded(sidecar)


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_stop_of_what_nobody_runs_withdraws_what_it_had_asked(
    store: Store, attempts: int
) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        await ask(sidecar, lease)
        if attempts == 2:
            lease = await sidecar.given_back(lease)  # and it asks nothing
        (process,) = sidecar.slots.processes(sidecar.app)
        sidecar.slots.drain(process)
        assert await sidecar.finish(lease, OutcomeStatus.RELEASED) == InvocationStatus.QUEUED
        assert await statuses(sidecar, session) == [OPEN]
        await sidecar.stop(session, lease.invocation_id)
        assert (await sidecar.kinds(session))[-2:] == ["prompt_ended", "invocation_ended"]
        assert await statuses(sidecar, session) == [WITHDRAWN]


async def test_the_deadline_stands_still_while_it_waits_and_then_withdraws(store: Store) -> None:
    async with store.sidecar(replace(TERMS, turn_deadline_ms=20_000)) as sidecar:
        session, lease = await turn(sidecar)
        (process,) = sidecar.slots.processes(sidecar.app)

        async def pass_by(milliseconds: int) -> None:
            for _ in range(milliseconds // 1_000):
                store.clock.advance(1_000)
                await sidecar.beat(process)
                await sidecar.sweep()

        await pass_by(4_000)
        first = await ask(sidecar, lease, "a", timeout_ms=30_000)
        await pass_by(15_000)
        second = await ask(sidecar, lease, "b")
        await pass_by(20_000)  # the first expires, the second is still open
        assert told(sidecar, first)[0][1].status == EXPIRED
        assert (await sidecar.invocation(lease.invocation_id))["cancel"] == 0
        await answer(sidecar, second)
        await pass_by(10_000)
        assert (await sidecar.invocation(lease.invocation_id))["cancel"] == 0
        await pass_by(7_000)
        assert (await sidecar.invocation(lease.invocation_id))["cancel"] != 0
        with pytest.raises(Stopped):
            await ask(sidecar, lease, "c")
        await pass_by(TERMS.stop_grace_ms)
        row = await sidecar.invocation(lease.invocation_id)
        assert (row["status"], row["reason"]) == (InvocationStatus.FAILED, "DEADLINE")
        assert OPEN not in await statuses(sidecar, session)


async def test_the_deadline_withdraws_what_an_earlier_attempt_asked(store: Store) -> None:
    """Of what it joined itself nothing can be open then: its deadline would stand still."""
    async with store.sidecar(replace(TERMS, turn_deadline_ms=2_000)) as sidecar:
        session, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease)
        lease = await sidecar.given_back(lease)
        store.clock.advance(2_000)
        await sidecar.sweep()
        assert await statuses(sidecar, session) == [WITHDRAWN]
        assert not (await answer(sidecar, prompt))[1]
        await sidecar.finish(lease)
        assert await sidecar.status(lease.invocation_id) == InvocationStatus.FAILED


async def test_the_end_withdraws_what_is_open_of_any_attempt_before_its_event(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        for text in "ab":
            await ask(sidecar, lease, text)
        again = await sidecar.given_back(lease)
        await ask(sidecar, again, "b")
        assert await sidecar.finish(again) == InvocationStatus.COMPLETED
        assert (await sidecar.kinds(session))[-3:] == [
            "prompt_ended", "prompt_ended", "invocation_ended",
        ]  # fmt: skip
        assert await statuses(sidecar, session) == [WITHDRAWN] * 2
        assert not [notice for notice in sidecar.told.notices if notice.resolved]
        assert await folded(sidecar)


async def test_prompts_outlive_lost_attempts_and_end_with_the_last(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease, timeout_ms=10 * MINUTE_MS)
        for attempt in range(2, TERMS.max_attempts + 1):
            lease = await sidecar.taken_over(f"p{attempt}")
            assert lease.attempt == attempt
            assert await statuses(sidecar, session) == [OPEN]
            if attempt == 2:
                assert await ask(sidecar, lease, timeout_ms=10 * MINUTE_MS) == prompt
        await sidecar.lose_leases()
        assert (await sidecar.invocation(lease.invocation_id))["reason"] == "ATTEMPTS_EXHAUSTED"
        assert await statuses(sidecar, session) == [WITHDRAWN]
        assert not (await answer(sidecar, prompt))[1]


async def test_no_more_prompts_are_open_than_the_limit(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompts = [await ask(sidecar, lease, f"{n}", maximum=2) for n in range(2)]
        with pytest.raises(LimitExceeded):
            await ask(sidecar, lease, "2", maximum=2)
        # In one group, where the second of them is one too many.
        await answer(sidecar, prompts[0])
        found = await asyncio.gather(
            *(submit(sidecar, lease, f"{n}", maximum=2) for n in (3, 4)), return_exceptions=True
        )
        assert [isinstance(each, LimitExceeded) for each in found] == [False, True]
        again = await sidecar.given_back(lease)
        # What it joins and what has ended is not refused.
        for text in ("1", "0", "3"):
            await ask(sidecar, again, text, maximum=2)
        with pytest.raises(LimitExceeded):
            await ask(sidecar, again, "5", maximum=2)
        assert len(await shown(sidecar, session)) == 3


async def test_a_deleted_session_takes_its_prompts_with_it(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        other = await sidecar.open()
        sent = await sidecar.say(other, "hello")
        gone, key = await ask(sidecar, lease), request_key()
        await ask(sidecar, lease, "again", key=key)
        kept = await ask(sidecar, Lease(sent.ids[1], 1))
        late, _ = await asyncio.gather(sidecar.delete(session), sidecar.sweep())
        assert late.offset == 0
        assert await open_prompts(sidecar) == [kept]
        assert await folded(sidecar)
        for refused in (
            answer(sidecar, gone),
            ask(sidecar, lease),
            ask(sidecar, lease, "again", key=key),
        ):
            with pytest.raises(NotFound):
                await refused
        await acknowledge(sidecar, gone)
        store.clock.advance(2 * MINUTE_MS)
        await sidecar.sweep()
        assert told(sidecar, gone) == []
        assert len(told(sidecar, kept)) == 1

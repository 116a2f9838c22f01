"""Locks of tasks on either database: one that was told to end takes no joiners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from capsule_sidecar.model.errors import NotRepeatable
from capsule_sidecar.model.types import Lease, OutcomeStatus, TaskStatus
from capsule_sidecar.storage import jobs
from tests.integration.storage.store import TERMS, Sidecar, Store
from tests.integration.storage.tasking import TASKS, cancel, end, submit, task


async def _sweeps(sidecar: Sidecar, seconds: int) -> None:
    """Lets time pass with sweeps and beats as punctual as they should be."""
    for _ in range(seconds):
        sidecar.clock.advance(1_000)
        for process in sidecar.slots.processes(sidecar.app):
            await sidecar.beat(process)
        await sidecar.sweep()


@asynccontextmanager
async def _ending(store: Store) -> AsyncIterator[tuple[Sidecar, str, str]]:
    """Enters a sidecar, a task that was told to end, and the one that was submitted since."""
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        first = await submit(sidecar, lock="one")
        assert await cancel(sidecar, task_ids=(first,)) == 1
        second = await submit(sidecar, lock="one")
        assert second != first
        yield sidecar, first, second


async def test_a_submission_waits_behind_a_task_that_was_told_to_end(store: Store) -> None:
    async with _ending(store) as (sidecar, first, second):
        await _sweeps(sidecar, 3)
        assert sidecar.held == [Lease(first, 1)], "the lock still excludes"
        assert (await task(sidecar, second)).status == TaskStatus.SCHEDULED
        assert await submit(sidecar, lock="one") == second, "what comes later joins it"
        await end(sidecar, first)
        assert (await task(sidecar, first)).status == TaskStatus.CANCELLED
        assert sidecar.held == [Lease(first, 1), Lease(second, 1)], "without any sweep"
        assert await submit(sidecar, lock="one") == second
        await end(sidecar, second)
        assert await submit(sidecar, lock="one") not in (first, second)


async def test_it_begins_where_the_grace_is_over(store: Store) -> None:
    async with _ending(store) as (sidecar, first, second):
        await _sweeps(sidecar, TERMS.stop_grace_ms // 1_000 + 1)
        assert (await task(sidecar, first)).status == TaskStatus.CANCELLED
        assert sidecar.held[-1] == Lease(second, 1)


async def test_it_begins_where_the_process_of_the_first_is_lost(store: Store) -> None:
    async with _ending(store) as (sidecar, _, second):
        await sidecar.lose_leases()
        assert (await task(sidecar, second)).status == TaskStatus.PENDING
        await sidecar.attach("p2", takes=TASKS)
        assert sidecar.held[-1] == Lease(second, 1)


async def test_it_waits_also_after_a_restart_in_between(store: Store) -> None:
    async with _ending(store) as (_, first, second):
        pass
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS, claims=(Lease(first, 1),))
        await _sweeps(sidecar, 2)
        assert sidecar.held == []
        assert await submit(sidecar, lock="one") == second
        await end(sidecar, first)
        assert sidecar.held == [Lease(second, 1)]


async def test_another_sidecar_may_have_either(postgres_store: Store) -> None:
    async with postgres_store.sidecar() as other, _ending(postgres_store) as (sidecar, first, _):
        await other.attach("p2", takes=TASKS)
        third = await submit(other, lock="two")
        await cancel(sidecar, task_ids=(third,))
        fourth = await submit(sidecar, lock="two")
        await end(other, third)
        assert (await task(sidecar, fourth)).status == TaskStatus.RUNNING
        assert sidecar.held == [Lease(first, 1)]
        assert other.held == [Lease(third, 1), Lease(fourth, 1)]


async def test_one_for_later_begins_at_its_time(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        first = await submit(sidecar, lock="one")
        await cancel(sidecar, task_ids=(first,))
        second = await submit(sidecar, lock="one", delay_ms=10_000)
        await end(sidecar, first)
        await _sweeps(sidecar, 3)
        assert sidecar.held == [Lease(first, 1)]
        await _sweeps(sidecar, 8)
        assert sidecar.held == [Lease(first, 1), Lease(second, 1)]


async def test_the_lock_still_excludes_where_what_waited_is_cancelled(store: Store) -> None:
    async with _ending(store) as (sidecar, first, second):
        assert await cancel(sidecar, task_ids=(second,)) == 1
        assert (await task(sidecar, second)).status == TaskStatus.CANCELLED
        third = await submit(sidecar, lock="one")
        assert third not in (first, second)
        await _sweeps(sidecar, 2)
        assert sidecar.held == [Lease(first, 1)]
        await end(sidecar, first)
        assert sidecar.held == [Lease(first, 1), Lease(third, 1)]


async def test_a_lock_goes_back_and_forth_in_one_group(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        first = await submit(sidecar, lock="one")
        await asyncio.gather(
            cancel(sidecar, task_ids=(first,)),
            submit(sidecar, lock="one"),
            cancel(sidecar, name="sync"),
            submit(sidecar, lock="one"),
            end(sidecar, first),
        )
        assert len(sidecar.held) == 2
        assert await submit(sidecar, lock="one") == sidecar.held[-1].invocation_id


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_deadline_ends_a_task_for_good_where_no_retry_is_left(
    store: Store, retries: int
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        first = await submit(sidecar, lock="one", timeout_ms=1_000, retries=retries)
        await _sweeps(sidecar, 2)
        second = await submit(sidecar, lock="one")
        assert (second == first) == bool(retries)
        await end(sidecar, first, status=OutcomeStatus.CANCELLED)
        await _sweeps(sidecar, 3)
        assert sidecar.held[-1] == (Lease(first, 2) if retries else Lease(second, 1))


async def test_what_failed_is_not_done_again_while_another_one_waits_for_its_lock(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        failed = await submit(sidecar, lock="one")
        await end(sidecar, failed, status=OutcomeStatus.FAILED)
        first = await submit(sidecar, lock="one")
        await cancel(sidecar, task_ids=(first,))
        second = await submit(sidecar, lock="one")
        row = await sidecar.do(lambda unit: unit.invocation(failed, sidecar.app))
        with pytest.raises(NotRepeatable, match=second):
            await sidecar.do(jobs.reopen, invocation=row)
        await end(sidecar, first)
        assert sidecar.held[-1] == Lease(second, 1)


async def _with_turns(sidecar: Sidecar) -> list[tuple[str, Lease]]:
    """Returns two sessions, each with a turn that runs."""
    sessions = [await sidecar.open() for _ in range(2)]
    return [(each, Lease((await sidecar.say(each, "hello")).ids[1], 1)) for each in sessions]


async def test_what_waits_begins_where_the_session_of_the_first_is_deleted(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        (session, turn), _ = await _with_turns(sidecar)
        first = await submit(sidecar, turn, lock="one", in_session=True)
        await cancel(sidecar, task_ids=(first,))
        second = await submit(sidecar, lock="one")
        await sidecar.delete(session)
        assert sidecar.held[-1] == Lease(second, 1)


async def test_the_lock_still_excludes_where_the_session_of_what_waits_is_deleted(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        (session, turn), _ = await _with_turns(sidecar)
        first = await submit(sidecar, lock="one")
        await cancel(sidecar, task_ids=(first,))
        second = await submit(sidecar, turn, lock="one", in_session=True)
        await sidecar.delete(session)
        third = await submit(sidecar, lock="one")
        assert third not in (first, second)
        assert sidecar.held[-1] == Lease(first, 1)
        await end(sidecar, first)
        assert sidecar.held[-1] == Lease(third, 1)


async def test_a_session_is_deleted_with_a_lock_that_it_has_alone(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        (session, turn), (_, other) = await _with_turns(sidecar)
        first = await submit(sidecar, turn, lock="one", in_session=True)
        await cancel(sidecar, task_ids=(first,))
        second = await submit(sidecar, turn, lock="one", in_session=True)
        await sidecar.delete(session)
        third = await submit(sidecar, other, lock="one")
        assert third not in (first, second)
        assert sidecar.held[-1] == Lease(third, 1)

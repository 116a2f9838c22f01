"""Tasks on either database: their states, their locks, their tries, and when they begin."""

from __future__ import annotations

import pytest

from capsule_sidecar.model.errors import NotFailed, NotFound, NotRepeatable
from capsule_sidecar.model.types import Lease, OutcomeStatus, TaskFilter, TaskStatus
from capsule_sidecar.storage import job_reads, jobs
from tests.integration.storage.store import Sidecar, Store
from tests.integration.storage.tasking import (
    TASKS,
    cancel,
    end,
    progress,
    retry,
    show,
    submit,
    task,
)

FAILED = OutcomeStatus.FAILED


async def _after(sidecar: Sidecar, milliseconds: int) -> None:
    """Lets time pass with sweeps as punctual as they should be."""
    for _ in range(-(-milliseconds // 1_000)):
        sidecar.clock.advance(1_000)
        for process in sidecar.slots.processes(sidecar.app):
            await sidecar.beat(process)
        await sidecar.sweep()


async def test_a_task_goes_through_its_states(store: Store) -> None:
    async with store.sidecar() as sidecar:
        key = await submit(sidecar, delay_ms=10_000, retries=1)
        assert (await task(sidecar, key)).status == TaskStatus.SCHEDULED
        await sidecar.attach(takes=TASKS)
        await _after(sidecar, 4_000)
        assert not sidecar.held, "its time has not come"
        await _after(sidecar, 7_000)
        assert sidecar.held == [Lease(key, 1)]
        assert (await task(sidecar, key)).status == TaskStatus.RUNNING
        await end(sidecar, key, status=FAILED)
        failed = await task(sidecar, key)
        assert (failed.status, failed.failures) == (TaskStatus.RETRYING, 1)
        await _after(sidecar, 2_000)
        assert sidecar.held[-1] == Lease(key, 2)
        await end(sidecar, key, 2, result=b"[1]")
        done = await task(sidecar, key)
        assert (done.status, done.result_json, done.attempt) == (TaskStatus.COMPLETED, b"[1]", 2)
        assert done.create_ms < done.start_ms < done.end_ms


async def test_tries_wait_longer_each_time(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        key = await submit(sidecar, retries=5)
        waits = []
        for attempt in range(1, 6):
            before = await sidecar.do(lambda unit: unit.now_ms)
            await end(sidecar, key, attempt, status=FAILED)
            behind = await sidecar.do(lambda unit: unit.now_ms)
            started = sidecar.told.leased[-1]
            assert started.attempt == attempt
            again = (await task(sidecar, key)).start_ms
            # It failed at some time between the two.
            waits.append((again - behind, again - before))
            await _after(sidecar, 20_000)
        wholes = (1_000, 2_000, 4_000, 8_000, 16_000)
        for (least, most), whole in zip(waits, wholes, strict=True):
            assert least <= whole
            assert most >= 0.75 * whole - 1


async def test_a_lock_is_given_back_and_taken_in_one_group(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        first = await submit(sidecar, lock="one")
        assert await submit(sidecar, lock="one") == first
        ending = end(sidecar, first)
        second = submit(sidecar, lock="one")
        await ending
        key = await second
        assert key != first
        assert await submit(sidecar, lock="one") == key


async def test_what_failed_is_opened_again_with_all_of_its_retries(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        key = await submit(sidecar, lock="one")
        row = await sidecar.do(lambda unit: unit.invocation(key, sidecar.app))
        with pytest.raises(NotFailed):
            await sidecar.do(jobs.reopen, invocation=row)
        await end(sidecar, key, status=FAILED)
        failed = await task(sidecar, key)
        assert (failed.status, failed.failures) == (TaskStatus.FAILED, 1)
        row = await sidecar.do(lambda unit: unit.invocation(key, sidecar.app))
        await sidecar.do(jobs.reopen, invocation=row)
        assert sidecar.held[-1] == Lease(key, 2)
        assert await submit(sidecar, lock="one") == key, "it has its lock again"
        await end(sidecar, key, 2)
        assert (await task(sidecar, key)).status == TaskStatus.COMPLETED


async def test_of_two_that_failed_under_one_lock_the_first_takes_it_again_and_the_other_waits(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        keys = []
        for _ in range(2):
            keys.append(await submit(sidecar, lock="one"))
            await end(sidecar, keys[-1], status=FAILED)
        first, second = keys
        reopening = sidecar.do(retry(sidecar.app, first))  # both in one group
        with pytest.raises(NotRepeatable, match=rf"{second}.*{first}.*'one'") as refused:
            await sidecar.do(retry(sidecar.app, second))
        assert await reopening == first
        assert refused.value.metadata["task_id"] == first
        assert refused.value.metadata["lock"] == "one"
        assert (await task(sidecar, second)).status == TaskStatus.FAILED
        assert await submit(sidecar, lock="one") == first, "who holds it is joined"
        other = await submit(sidecar, lock="two")
        assert other not in keys, "another lock is another's"
        await end(sidecar, first, 2)
        assert await sidecar.do(retry(sidecar.app, second)) == second
        assert await submit(sidecar, lock="one") == second
        assert (await task(sidecar, second)).lock == "one"


async def test_every_status_is_found_by_its_filter(store: Store) -> None:
    async with store.sidecar() as sidecar:
        pending = await submit(sidecar, name="nobodys")
        scheduled = await submit(sidecar, delay_ms=60_000)
        cancelled = await submit(sidecar, delay_ms=60_001)
        assert await cancel(sidecar, task_ids=(cancelled,)) == 1
        await sidecar.attach(takes=TASKS)
        running = await submit(sidecar)
        failed, retrying, completed = [await submit(sidecar, retries=n % 2) for n in range(3)]
        await end(sidecar, failed, status=FAILED)
        await end(sidecar, retrying, status=FAILED)
        await end(sidecar, completed)
        for status, key in {
            TaskStatus.PENDING: pending,
            TaskStatus.SCHEDULED: scheduled,
            TaskStatus.CANCELLED: cancelled,
            TaskStatus.RUNNING: running,
            TaskStatus.FAILED: failed,
            TaskStatus.RETRYING: retrying,
            TaskStatus.COMPLETED: completed,
        }.items():
            wanted = TaskFilter(statuses=frozenset({status}))
            found, _ = await sidecar.read(job_reads.list_tasks, sidecar.app, wanted, 10, "")
            assert [each.task_id for each in found] == [key]
            assert found[0].status == status
            assert await sidecar.read(job_reads.count_tasks, sidecar.app, wanted) == 1


async def test_a_card_follows_its_task_in_every_session_that_shows_it(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        sessions = [await sidecar.open() for _ in range(2)]
        leases = [Lease((await sidecar.say(each, "hello")).ids[1], 1) for each in sessions]
        key = await submit(sidecar, leases[0])
        for lease in leases:
            await show(sidecar, lease, key, "Syncing")
        await progress(sidecar, key, 0.5)
        await progress(sidecar, key, 0.6)
        await _after(sidecar, 2_000)
        await end(sidecar, key, result=b"1")
        for session in sessions:
            shown = [
                event.block_shown.block.payload_json
                for event in await sidecar.log(session)
                if event.WhichOneof("kind") == "block_shown"
            ]
            assert b'"progress":0.6' in shown[-2]
            assert b'"status":"completed"' in shown[-1]
            assert b'"result":1' in shown[-1]


async def test_a_group_that_is_run_again_queues_a_task_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        await sidecar.attach(takes=TASKS)
        lease = Lease(sent.ids[1], 1)
        keys = [await submit(sidecar, lease) for _ in range(2)]
        assert len(set(keys)) == 2, "the same wish twice in one attempt is two tasks"
        again = await sidecar.given_back(lease)
        assert [await submit(sidecar, again) for _ in range(2)] == keys


async def test_what_tasks_without_a_session_submitted_is_forgotten_with_them(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        outer = await submit(sidecar)
        inner = [await submit(sidecar, Lease(outer, 1), start_ms=n) for n in range(3)]
        for key in (outer, *inner):
            await end(sidecar, key)
        events = (await sidecar.rows())["events"]
        sidecar.clock.advance(31 * 86_400_000)
        later = await submit(sidecar)
        await submit(sidecar, Lease(later, 1))
        assert (await sidecar.rows())["events"] == events + 1
        await sidecar.do(jobs.forget, after=0, rows=100)
        # Of each log that nobody reads, from where what is still there began.
        assert (await sidecar.rows())["events"] == 2
        again = await sidecar.given_back(Lease(later, 1))
        assert (await sidecar.rows())["invocations"] == 2
        await submit(sidecar, again)
        assert (await sidecar.rows())["invocations"] == 2, "what is repeated is found"


async def test_what_has_no_session_is_forgotten_long_after_its_end(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TASKS)
        session = await sidecar.open()
        lease = Lease((await sidecar.say(session, "hello")).ids[1], 1)
        ended, inside = await submit(sidecar), await submit(sidecar, lease, in_session=True)
        await show(sidecar, lease, ended)
        for key in (ended, inside):
            await end(sidecar, key)
        running = await submit(sidecar)
        assert await sidecar.do(jobs.forget, after=0, rows=100) is None
        assert (await task(sidecar, ended)).status == TaskStatus.COMPLETED
        sidecar.clock.advance(31 * 86_400_000)
        page = await sidecar.do(jobs.forget, after=0, rows=2)
        assert page is not None
        assert await sidecar.do(jobs.forget, after=page, rows=100) is None
        with pytest.raises(NotFound):
            await task(sidecar, ended)
        assert (await task(sidecar, inside)).status == TaskStatus.COMPLETED
        assert (await task(sidecar, running)).status == TaskStatus.RUNNING

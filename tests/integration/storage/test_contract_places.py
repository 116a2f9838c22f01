"""The places of processes are neither lost nor doubled, whatever becomes of a group."""

from __future__ import annotations

import asyncio
import threading

import pytest

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model.types import Answer, Lease, OutcomeStatus
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.asking import (
    MINUTE_MS,
    answer,
    answers,
    ask,
    asks,
    free,
    states,
    submit,
    told,
)
from tests.integration.storage.store import MESSAGES, Sidecar, Store, request_key
from tests.integration.storage.tasking import TASKS, end
from tests.integration.storage.tasking import submit as submit_task


def _together(sidecar: Sidecar) -> threading.Event:
    """Holds the writer until the event is set: what is submitted meanwhile makes one group."""
    gate = threading.Event()

    def wait(_: Unit) -> None:
        assert gate.wait(15)

    sidecar.journal.start(sidecar.app, wait)
    return gate


async def test_a_group_that_is_run_again_gives_each_place_back_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach(free=2)
        for _ in range(4):
            await sidecar.say(await sidecar.open(), "hello")
        (ends, runs), key = sidecar.held, request_key()
        answer = await sidecar.reply(runs, "answer", key=key)

        gate = _together(sidecar)
        ended = sidecar.finish(ends)
        # Its id is recorded already, which fails the group it is in.
        again = sidecar.reply(runs, "answer", key=key)
        gate.set()
        await ended
        assert await again == answer
        assert len(sidecar.held) == 3


async def test_a_process_whose_entry_was_not_committed_has_no_places(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session = await sidecar.open()

        def enter(unit: Unit) -> None:
            unit.enter_process(99, sidecar.app, MESSAGES, 10, owner=None)
            raise RuntimeError("storage is away")

        with pytest.raises(RuntimeError):
            await sidecar.do(enter)
        assert sidecar.slots.processes(sidecar.app) == []
        await sidecar.say(session, "hello")
        assert sidecar.held == []


# -- waiting with a person ------------------------------------------------------------------------


async def _waiting(
    sidecar: Sidecar, free: int, turns: int
) -> tuple[int, list[Lease], list[types_pb2.Prompt]]:
    """Returns a process, and the turns of it that wait, each with a prompt."""
    process = (await sidecar.attach(free=free)).process
    leases, prompts = [], []
    for _ in range(turns):
        sent = await sidecar.say(await sidecar.open(), "hello")
        leases.append(Lease(sent.ids[1], 1))
        prompts.append(await ask(sidecar, leases[-1]))
    return process, leases, prompts


async def test_what_waits_gives_its_place_to_the_next_in_the_queue(store: Store) -> None:
    async with store.sidecar() as sidecar:
        process = (await sidecar.attach(free=1)).process
        for _ in range(3):
            await sidecar.say(await sidecar.open(), "hello")
        for number in range(3):
            assert len(sidecar.held) == number + 1
            await ask(sidecar, sidecar.held[number])
        # A second one of the same turn gives nothing more, nor takes its end anything.
        prompt = await ask(sidecar, sidecar.held[-1], "and?")
        assert free(sidecar, process) == 1
        await answer(sidecar, prompt)
        assert free(sidecar, process) == 1


async def test_whoever_goes_on_takes_a_place_whether_or_not_one_is_free(store: Store) -> None:
    async with store.sidecar() as sidecar:
        process, leases, prompts = await _waiting(sidecar, free=1, turns=3)
        assert free(sidecar, process) == 1
        for number, prompt in enumerate(prompts):
            await answer(sidecar, prompt)
            assert free(sidecar, process) == -number
        await sidecar.say(await sidecar.open(), "hello")
        for lease in leases:
            assert len(sidecar.held) == 3
            await sidecar.finish(lease)
        assert len(sidecar.held) == 4
        await sidecar.finish(sidecar.held[-1])
        assert free(sidecar, process) == 1


@pytest.mark.parametrize("how", ["finish", "stop", "expire", "give back", "delete", "dismiss"])
async def test_however_waiting_ends_the_places_add_up(store: Store, how: str) -> None:
    async with store.sidecar() as sidecar:
        process = (await sidecar.attach(free=2)).process
        session = await sidecar.open()
        lease = Lease((await sidecar.say(session, "hello")).ids[1], 1)
        prompts = [await ask(sidecar, lease, text) for text in "ab"]
        assert free(sidecar, process) == 2
        match how:
            case "finish":
                await sidecar.finish(lease)
            case "stop":
                await sidecar.stop(session, lease.invocation_id)
                assert free(sidecar, process) == 1
                await sidecar.finish(lease)
            case "expire":
                store.clock.advance(MINUTE_MS)
                await sidecar.beat(process)
                await sidecar.sweep()
                assert free(sidecar, process) == 1
                await sidecar.finish(lease)
            case "give back":
                again = await sidecar.given_back(lease)
                assert free(sidecar, process) == 1
                assert await ask(sidecar, again, "b") == prompts[1]
                assert free(sidecar, process) == 2
                await answer(sidecar, prompts[0])  # it has not joined this one
                assert free(sidecar, process) == 2
                await sidecar.finish(again)
            case "delete":
                await sidecar.delete(session)
            case "dismiss":
                for prompt in prompts:
                    await answer(sidecar, prompt, Answer())
                assert free(sidecar, process) == 1
                await sidecar.finish(lease)
        assert free(sidecar, process) == 2


async def test_a_process_that_attaches_again_has_the_places_of_what_does_not_wait(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        process, leases, prompts = await _waiting(sidecar, free=5, turns=3)
        runs = Lease((await sidecar.say(await sidecar.open(), "hello")).ids[1], 1)
        assert (await sidecar.attach(free=5, claims=(*leases, runs))).held == 1
        assert free(sidecar, process) == 4
        # What it has not named it has forgotten: the next attempts, which run, join the prompts.
        sidecar.slots.detach(process, sidecar)
        found = await sidecar.attach(free=5, claims=(runs,))
        assert (found.held, found.missing) == (1, [])
        again = [Lease(lease.invocation_id, 2) for lease in leases]
        assert sidecar.held[-3:] == again
        assert free(sidecar, process) == 1
        for lease, prompt in zip(again, prompts, strict=True):
            assert (await ask(sidecar, lease, prompt.message)).prompt_id == prompt.prompt_id
        assert free(sidecar, process) == 4
        await answer(sidecar, prompts[0])
        assert free(sidecar, process) == 3
    async with store.sidecar() as sidecar:
        assert (await sidecar.attach(free=5, claims=(*again, runs))).held == 2
        for lease in (*again, runs):
            await sidecar.finish(lease)
        assert free(sidecar, process) == 5


async def test_a_lost_lease_that_waited_gives_nothing_back(store: Store) -> None:
    async with store.sidecar() as sidecar:
        process, (lease,), _ = await _waiting(sidecar, free=1, turns=1)
        other = (await sidecar.attach("p2", free=2)).process
        sidecar.slots.detach(process, sidecar)
        for _ in range(16):
            store.clock.advance(1_000)
            await sidecar.beat(other)
            await sidecar.sweep()
        assert sidecar.held[-1] == Lease(lease.invocation_id, 2)
        assert free(sidecar, other) == 1
        await ask(sidecar, sidecar.held[-1])
        assert free(sidecar, other) == 2


async def test_a_group_that_failed_leaves_what_waits_and_the_places_as_they_were(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        process, (waits,), (prompt,) = await _waiting(sidecar, free=2, turns=1)
        session = await sidecar.open()
        runs = Lease((await sidecar.say(session, "hello")).ids[1], 1)
        await sidecar.say(await sidecar.open(), "hello")
        await sidecar.say(await sidecar.open(), "no place for it")
        assert (free(sidecar, process), len(sidecar.held)) == (0, 3)
        before = await states(sidecar)

        def fail(unit: Unit) -> None:
            # The answer takes a place; the question gives one, which the next in the queue gets.
            answers(sidecar, prompt)(unit)
            asks(sidecar, runs)(unit)
            raise RuntimeError("storage is away")

        for _ in range(2):
            with pytest.raises(RuntimeError):
                await sidecar.do(fail)
            assert (free(sidecar, process), len(sidecar.held)) == (0, 3)
            assert await states(sidecar) == before
            assert told(sidecar, prompt) == []
        # And in a group that is run again, since a request in it was recorded before.
        key = request_key()
        await sidecar.reply(runs, "an answer", key=key)
        gate = _together(sidecar)
        asked = submit(sidecar, runs)
        answered = sidecar.do(answers(sidecar, prompt))
        again = sidecar.reply(runs, "an answer", key=key)
        gate.set()
        await asyncio.gather(asked, answered, again)
        assert (free(sidecar, process), len(sidecar.held)) == (-1, 4)
        assert len(told(sidecar, prompt)) == 1
        assert (await sidecar.invocation(waits.invocation_id))["prompts"] == 0


async def test_the_place_of_a_failed_try_is_given_at_once_to_what_waits(store: Store) -> None:
    async with store.sidecar() as sidecar:
        process = (await sidecar.attach(free=1, takes=TASKS)).process
        fails, waits = await submit_task(sidecar, retries=1), await submit_task(sidecar)
        assert sidecar.held == [Lease(fails, 1)]
        await end(sidecar, fails, status=OutcomeStatus.FAILED)
        assert sidecar.held == [Lease(fails, 1), Lease(waits, 1)]
        assert free(sidecar, process) == 0


async def test_a_deleted_session_takes_no_place_for_its_tasks_that_wait(store: Store) -> None:
    async with store.sidecar() as sidecar:
        process = (await sidecar.attach(free=2, takes=TASKS)).process
        session = await sidecar.open()
        turn = Lease((await sidecar.say(session, "hello")).ids[1], 1)
        ours = [await submit_task(sidecar, turn, in_session=True, start_ms=n) for n in range(3)]
        assert sidecar.held == [turn, Lease(ours[0], 1)]
        other = await submit_task(sidecar)
        await sidecar.delete(session)
        assert sidecar.held[2:] == [Lease(other, 1)]
        assert free(sidecar, process) == 1

"""How many tasks of a name wait is counted beside them: against a recount, and what it limits."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import Connection, func, select

from capsule_sidecar.model.errors import DomainError, LimitExceeded
from capsule_sidecar.model.types import (
    Declarations,
    InvocationKind,
    InvocationStatus,
    OutcomeStatus,
    TaskStatus,
    WorkState,
)
from capsule_sidecar.storage import work_schema
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import TERMS, Sidecar, Store
from tests.integration.storage.tasking import cancel, end, retry, submit, task

FAILED = OutcomeStatus.FAILED
NAMES = ("sync", "mail", "nobodys")
TAKES = Declarations(message=True, tasks=frozenset({"sync", "mail"}))
Counts = dict[tuple[int, str], int]


def _kept(connection: Connection) -> Counts:
    rows = connection.execute(select(work_schema.task_counts))
    return {(app, name): waiting for app, name, waiting in rows}


def _recount(connection: Connection) -> Counts:
    columns = work_schema.invocations.c
    rows = connection.execute(
        select(columns.app, columns.name, func.count())
        .where(
            columns.kind == int(InvocationKind.TASK),
            columns.state.in_((int(WorkState.WAITING), int(WorkState.READY))),
        )
        .group_by(columns.app, columns.name)
    )
    return {(app, name): waiting for app, name, waiting in rows}


async def counts(sidecar: Sidecar) -> Counts:
    """Returns the counts as they are kept, which are what a recount finds."""
    kept, found = await sidecar.read(lambda c: (_kept(c), _recount(c)))
    assert kept == found
    return found


def _failed(connection: Connection) -> list[str]:
    columns = work_schema.invocations.c
    return list(
        connection.execute(
            select(columns.key).where(
                columns.kind == int(InvocationKind.TASK),
                columns.status == int(InvocationStatus.FAILED),
            )
        ).scalars()
    )


def _running(connection: Connection) -> list[tuple[str, int]]:
    columns = work_schema.invocations.c
    rows = connection.execute(
        select(columns.key, columns.attempt).where(
            columns.kind == int(InvocationKind.TASK), columns.state == int(WorkState.RUNNING)
        )
    )
    return [(key, attempt) for key, attempt in rows]


class Play:
    """Whatever happens to tasks, at random.

    Args:
        sidecar: Where.
        choice: What happens.
    """

    def __init__(self, sidecar: Sidecar, choice: random.Random) -> None:
        self._sidecar = sidecar
        self._choice = choice
        self._made: list[str] = []
        self._sessions: list[str] = []
        self.done: set[str] = set()

    async def several(self) -> None:
        """Has several things happen in one group; one of them may undo the whole group."""
        sidecar, choice = self._sidecar, self._choice
        happens = [self._one() for _ in range(choice.randint(1, 6))]
        if choice.random() < 0.2:
            happens.append(self._defect())
        await asyncio.gather(*happens)
        if choice.random() < 0.2:
            await sidecar.do(lambda unit: unit.forget())

    async def _one(self) -> None:
        kind = self._choice.choice(
            ("submit", "submit", "submit", "end", "end", "end", "cancel", "again", "time", "lost",
             "session", "delete")
        )  # fmt: skip
        with suppress(DomainError):  # as what has ended refuses
            await getattr(self, f"_{kind}")()

    async def _submit(self) -> None:
        choice, held = self._choice, self._sidecar.held
        inside = choice.random() < 0.5 and bool(held)
        lease = choice.choice(held) if inside else None
        self._made.append(
            await submit(
                self._sidecar, lease, name=choice.choice(NAMES), retries=choice.choice((0, 0, 1)),
                delay_ms=choice.choice((0, 0, 3_000)), lock=choice.choice(("", "", "one")),
                in_session=inside,
            )
        )  # fmt: skip

    async def _end(self) -> None:
        running = await self._sidecar.read(_running)
        if running:
            key, attempt = self._choice.choice(running)
            status = self._choice.choice(
                (OutcomeStatus.COMPLETED, FAILED, FAILED, FAILED, OutcomeStatus.RELEASED)
            )
            await end(self._sidecar, key, attempt, status)

    async def _cancel(self) -> None:
        if self._made:
            key = self._choice.choice(self._made[-10:])
            if await cancel(self._sidecar, task_ids=(key,)):
                self.done.add("cancel")

    async def _again(self) -> None:
        failed = await self._sidecar.read(_failed)
        if failed:
            key = self._choice.choice(failed)
            await self._sidecar.do(retry(self._sidecar.app, key))
            self.done.add("again")

    async def _time(self) -> None:
        self._sidecar.clock.advance(2_500)
        for process in self._sidecar.slots.processes(self._sidecar.app):
            await self._sidecar.beat(process)
        await self._sidecar.sweep()

    async def _lost(self) -> None:
        if self._choice.random() < 0.3:
            await self._sidecar.lose_leases()
            await self._sidecar.attach(takes=TAKES, free=3)
            self.done.add("lost")

    async def _session(self) -> None:
        session = await self._sidecar.open()
        self._sessions.append(session)
        await self._sidecar.say(session, "hello")

    async def _delete(self) -> None:
        if self._sessions:
            chosen = self._choice.randrange(len(self._sessions))
            await self._sidecar.delete(self._sessions.pop(chosen))
            self.done.add("delete")

    async def _defect(self) -> None:
        def defect(unit: Unit) -> None:
            unit.flush_if_pending()
            raise RuntimeError("a defect undoes its group, which is run again one by one")

        with pytest.raises(RuntimeError):
            await self._sidecar.do(defect)


@pytest.mark.parametrize("seed", range(3))
async def test_the_counts_are_what_a_recount_finds_whatever_happens(
    store: Store, seed: int
) -> None:
    choice = random.Random(seed)
    async with store.sidecar() as sidecar:
        await sidecar.attach(takes=TAKES, free=3)
        play = Play(sidecar, choice)
        most = 0
        for _ in range(60):
            await play.several()
            most = max(most, sum((await counts(sidecar)).values()))
        assert most > 5
        assert play.done == {"cancel", "again", "lost", "delete"}
    async with store.sidecar() as sidecar:
        await counts(sidecar)
        await submit(sidecar, name="nobodys")
        assert (await counts(sidecar))[sidecar.app, "nobodys"] > 0


async def test_two_sidecars_keep_one_count(postgres_store: Store) -> None:
    async with postgres_store.sidecar() as first, postgres_store.sidecar() as second:
        both = (first, second)
        made = await asyncio.gather(*(submit(one) for one in both * 20))
        assert await counts(first) == {(first.app, "sync"): 40}
        await asyncio.gather(
            *(cancel(one, task_ids=(key,)) for one, key in zip(both * 15, made[:30], strict=True))
        )
        assert await counts(second) == {(first.app, "sync"): 10}


async def test_the_limit_counts_what_has_not_begun_or_will_begin_again(store: Store) -> None:
    terms = replace(TERMS, max_pending_tasks=3)
    async with store.sidecar(terms) as sidecar:
        await sidecar.attach(takes=TAKES, free=1)
        runs = await submit(sidecar, retries=1)
        assert (await task(sidecar, runs)).status == TaskStatus.RUNNING
        waits, later, other = [
            await submit(sidecar, delay_ms=delay) for delay in (0, 60_000, 60_000)
        ]
        assert (await task(sidecar, waits)).status == TaskStatus.PENDING
        assert (await task(sidecar, later)).status == TaskStatus.SCHEDULED
        for delay in (0, 60_000):
            with pytest.raises(LimitExceeded) as refused:
                await submit(sidecar, delay_ms=delay)
            assert refused.value.metadata == {"limit": "pending_tasks", "maximum": "3"}
        # Of that name alone.
        await submit(sidecar, name="nobodys")
        # What failed and will be tried again takes the room of what begins in its stead.
        await end(sidecar, runs, status=FAILED)
        assert (await task(sidecar, runs)).status == TaskStatus.RETRYING
        assert (await task(sidecar, waits)).status == TaskStatus.RUNNING
        with pytest.raises(LimitExceeded):
            await submit(sidecar)
        await cancel(sidecar, task_ids=(other,))
        await submit(sidecar, delay_ms=60_000)
        assert (await counts(sidecar))[sidecar.app, "sync"] == 3


async def test_the_limit_is_exact_for_those_that_come_at_once(store: Store) -> None:
    async with store.sidecar(replace(TERMS, max_pending_tasks=10)) as sidecar:
        answers = await asyncio.gather(
            *(submit(sidecar, delay_ms=60_000) for _ in range(25)), return_exceptions=True
        )
        refused = [answer for answer in answers if isinstance(answer, LimitExceeded)]
        assert len(refused) == 15
        assert await counts(sidecar) == {(sidecar.app, "sync"): 10}


async def test_a_task_that_holds_its_lock_is_joined_also_at_the_limit(store: Store) -> None:
    async with store.sidecar(replace(TERMS, max_pending_tasks=1)) as sidecar:
        first = await submit(sidecar, lock="one")
        assert await submit(sidecar, lock="one") == first


async def test_names_that_nothing_waits_under_take_no_room(store: Store) -> None:
    async with store.sidecar() as sidecar:
        keys = [await submit(sidecar, name=f"task-{n}") for n in range(5)]
        assert len(await counts(sidecar)) == 5
        await cancel(sidecar, task_ids=tuple(keys))
        assert await counts(sidecar) == {}

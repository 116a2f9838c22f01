"""What failed is listed, and done again once, whoever asks how often."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from capsule_sidecar.model.errors import NotFailed, NotFound, NotRepeatable, SessionClosed
from capsule_sidecar.model.types import InvocationKind, InvocationStatus, OutcomeStatus
from capsule_sidecar.storage import inspecting, offers
from capsule_sidecar.storage.inspecting import InvocationFilter
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import Sidecar, Store
from tests.integration.storage.tasking import retry as again


async def _failed(sidecar: Sidecar, session: str, text: str) -> str:
    """Lets a turn fail; returns its invocation."""
    sent = await sidecar.say(session, text)
    await sidecar.finish(sidecar.held[-1], OutcomeStatus.FAILED)
    return str(sent.ids[1])


def _take(unit: Unit, sidecar: Sidecar) -> None:
    (process,) = sidecar.slots.processes(sidecar.app)
    offers.lease_ready(unit, sidecar.app, process)


async def _listed(sidecar: Sidecar, wanted: InvocationFilter) -> list[str]:
    found, token = await sidecar.read(
        inspecting.invocations, app=sidecar.app, wanted=wanted, size=50, token=""
    )
    assert not token
    return [one.invocation_id for one in found]


async def test_it_is_queued_once_also_when_it_is_asked_for_at_the_same_time(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        failed = await _failed(sidecar, session, "hello")
        retry = again(sidecar.app, failed)
        made = await asyncio.gather(*(sidecar.journal.submit(sidecar.app, retry) for _ in range(5)))
        assert len(set(made)) == 1
        assert failed not in made
        assert await sidecar.texts(session) == ["hello", "hello"]
    async with store.sidecar() as sidecar:
        assert await sidecar.journal.submit(sidecar.app, retry) == made[0]
        assert await sidecar.texts(session) == ["hello", "hello"]


async def test_two_sidecars_that_are_asked_at_once_queue_it_once(postgres_store: Store) -> None:
    async with postgres_store.sidecar() as first, postgres_store.sidecar() as second:
        await first.attach()
        session = await first.open()
        for round_ in range(5):
            failed = await _failed(first, session, f"{round_}")
            retry = again(first.app, failed)
            made = await asyncio.gather(
                *(one.journal.submit(one.app, retry) for one in (second, first) * 3)
            )
            assert len(set(made)) == 1
            # Whoever queued it, it is the first one's process that takes it.
            await first.do(partial(_take, sidecar=first))
            for lease in first.held:
                await first.finish(lease)
        assert await first.texts(session) == [f"{n}" for n in range(5) for _ in range(2)]


async def test_what_did_not_fail_or_cannot_be_repeated_changes_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        other = await sidecar.of_app("other")
        failed = await _failed(sidecar, session, "one")
        sent = await sidecar.say(session, "two")
        [enter] = await _listed(sidecar, InvocationFilter(kind=InvocationKind.ENTER))

        async def refuses(key: str, error: type[Exception], app: int = sidecar.app) -> None:
            before = await sidecar.rows()
            with pytest.raises(error):
                await sidecar.journal.submit(app, again(app, key))
            assert await sidecar.rows() == before

        await refuses(enter, NotRepeatable)
        await refuses(sent.ids[1], NotFailed)
        await refuses("inv_none", NotFound)
        await refuses(failed, NotFound, other.app)
        await sidecar.finish(sidecar.held[-1])
        await refuses(sent.ids[1], NotFailed)
        await sidecar.close(session)
        await refuses(failed, SessionClosed)


async def test_invocations_are_listed_by_what_they_are(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        first, second = await sidecar.open(), await sidecar.open()
        one, two = [await _failed(sidecar, session, "hello") for session in (first, second)]
        failed = InvocationStatus.FAILED
        assert await _listed(sidecar, InvocationFilter(status=failed)) == [two, one]
        assert await _listed(sidecar, InvocationFilter(failed, session_id=first)) == [one]
        assert await _listed(sidecar, InvocationFilter(failed, InvocationKind.TASK)) == []
        other = await sidecar.of_app("other")
        assert await _listed(other, InvocationFilter(status=failed)) == []
        with pytest.raises(NotFound):
            await _listed(other, InvocationFilter(session_id=first))

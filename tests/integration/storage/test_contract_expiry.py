"""Sessions expire on either database: those in which nothing has happened for long, no other."""

from __future__ import annotations

from dataclasses import replace

from capsule_sidecar.model.types import Lease, SessionState
from capsule_sidecar.storage import expiry
from tests.integration.storage.asking import ask
from tests.integration.storage.store import EVERYTHING, TERMS, Sidecar, Store
from tests.integration.storage.tasking import submit

HOUR = 3_600_000
EXPIRING = replace(TERMS, session_ttl_ms=HOUR)


async def _expire(sidecar: Sidecar, rows: int = 2) -> None:
    """Walks all sessions, a page at a time."""
    after: int | None = 0
    while after is not None:
        after = await sidecar.do(expiry.expire_sessions, after=after, rows=rows)


async def _state(sidecar: Sidecar, session: str) -> SessionState:
    row = await sidecar.do(lambda unit: unit.session(session, sidecar.app))
    return SessionState(row.state)


async def test_a_session_without_an_event_for_its_term_is_closed_and_exit_runs(
    store: Store,
) -> None:
    async with store.sidecar(EXPIRING) as sidecar:
        await sidecar.attach(takes=EVERYTHING)
        idle, lively = await sidecar.open(), await sidecar.open()
        for lease in list(sidecar.held):
            await sidecar.finish(lease)
        store.clock.advance(HOUR - 60_000)
        await _expire(sidecar)
        assert await _state(sidecar, idle) == SessionState.OPEN
        await sidecar.turn(lively, "still here")
        store.clock.advance(120_000)
        before = len(sidecar.held)
        await _expire(sidecar)
        assert await _state(sidecar, idle) == SessionState.CLOSING
        (leaving,) = sidecar.held[before:]
        await sidecar.finish(leaving)
        assert (await sidecar.kinds(idle))[-3:] == [
            "session_closing", "invocation_ended", "session_closed",
        ]  # fmt: skip
        assert await _state(sidecar, lively) == SessionState.OPEN
        await _expire(sidecar)
        assert len(sidecar.held) == before + 1, "once"


async def test_what_waits_for_a_person_or_a_task_does_not_expire(store: Store) -> None:
    async with store.sidecar(EXPIRING) as sidecar:
        await sidecar.attach()
        asking, working = await sidecar.open(), await sidecar.open()
        await ask(sidecar, Lease((await sidecar.say(asking, "hello")).ids[1], 1), "Really?")
        lease = Lease((await sidecar.say(working, "hello")).ids[1], 1)
        await submit(sidecar, lease, in_session=True, delay_ms=24 * HOUR)
        await submit(sidecar, lease, delay_ms=24 * HOUR)
        await sidecar.finish(lease)
        store.clock.advance(2 * HOUR)
        await _expire(sidecar)
        for session in (asking, working):
            assert await _state(sidecar, session) == SessionState.OPEN

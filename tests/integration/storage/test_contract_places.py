"""The places of processes are neither lost nor doubled, whatever becomes of a group."""

from __future__ import annotations

import threading

import pytest

from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import MESSAGES, Sidecar, Store, request_key


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

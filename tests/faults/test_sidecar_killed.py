"""Case 1: the sidecar is killed at random points under load, again and again."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faults import script
from tests.faults.answerers import Answering, Waiting
from tests.faults.checker import check
from tests.faults.conftest import Report
from tests.faults.processes import Handlers
from tests.support.ports import steady_port
from tests.support.sidecar import SidecarProcess

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "20"))
_PEOPLE = 8
_WAITING = 4
_TIMING = {
    # Long enough that a handler keeps its work over a restart on a busy machine, most times.
    "CAPSULE_TIMING__LEASE_TERM": "6s",
    "CAPSULE_TIMING__FRESH_BEAT": "3s",
    "CAPSULE_TIMING__BEAT_INTERVAL": "1s",
    "CAPSULE_TIMING__MAX_ATTEMPTS": "10",
    # Few enough that the last turns end soon after the last message.
    "CAPSULE_LIMITS__WAITING_MESSAGES": "5",
}


@pytest.mark.deadline(280)
async def test_nothing_acknowledged_is_lost_or_doubled_when_the_sidecar_is_killed(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    kills = starting = 0
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), _TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        for _ in range(2):
            await (await handlers.start()).attached()
        wishes = (*script.WISHES, "ask", "choose")
        talks = [
            await stack.enter_async_context(
                Answering(running, f"p{number}", seed, wishes=wishes, thinks=1)
            )
            for number in range(_PEOPLE)
        ]
        # Nobody answers these before the last kill.
        waiting = [
            await stack.enter_async_context(Waiting(running, f"w{number}", seed))
            for number in range(_WAITING)
        ]
        for each in waiting:
            await each.asked_back()
        for _ in range(_ROUNDS):
            await asyncio.sleep(choice.uniform(0.05, 1.0))  # the random point
            await sidecar.kill()
            kills += 1
            if choice.random() < 0.15:  # and one more while it comes up
                start = asyncio.create_task(sidecar.start())
                await asyncio.wait({start}, timeout=choice.uniform(0.05, 1.0))
                starting += not start.done()
                await sidecar.kill()
                await asyncio.gather(start, return_exceptions=True)
                kills += 1
            await sidecar.start()
        asked = [prompt for each in waiting for prompt in await each.open()]
        assert len(asked) == _WAITING
        for each in waiting:
            assert (await each.answers_at_last()).accepted
        for talk in (*talks, *waiting):
            await talk.finish()
        assert not handlers.surprises()
        figures = await check([*talks, *waiting], handlers.notes())
        retries = sum(talk.person.retries for talk in talks)
        await sidecar.kill()
        assert _integrity(tmp_path / "home") == "ok"
    took = time.monotonic() - began
    report(f"{kills} kills survived ({starting} while starting), {retries} retries, {took:.0f} s")
    report(f"{len(asked)} prompts open over all of them, each answered afterwards; {figures}")
    assert figures.acknowledged_writes > _ROUNDS
    assert figures.messages > _ROUNDS
    assert figures.acknowledged_answers > _ROUNDS


def _integrity(home: Path) -> str:
    (database,) = home.glob("*.db")
    connection = sqlite3.connect(database)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()

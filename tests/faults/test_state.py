"""Case 1 and 2 for values and documents: no increment is lost or doubled, whoever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Report
from tests.faults.counters import Counter
from tests.faults.counting import SCOPES, Figures, addend, key_of, mark_of, times
from tests.faults.people import Talk
from tests.faults.processes import Handlers
from tests.support.ports import steady_port
from tests.support.sidecar import SidecarProcess

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "12"))
_PEOPLE = 6
_COUNTERS = 3
_PROCESSES = 2
_TIMING = {
    "CAPSULE_TIMING__LEASE_TERM": "3s",
    "CAPSULE_TIMING__FRESH_BEAT": "1500ms",
    "CAPSULE_TIMING__BEAT_INTERVAL": "500ms",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "300ms",
    "CAPSULE_TIMING__MAX_ATTEMPTS": "19",
    "CAPSULE_LIMITS__WAITING_MESSAGES": "5",
}


@dataclass
class Counting(Talk):
    """A person each of whose messages is one increment, in a scope, of a value or a document."""

    async def _talk(self) -> None:
        self.session_id = await self._open()
        while not self._stopping:
            kind, scope = self._choice.choice(("value", "document")), self._choice.choice(SCOPES)
            await self.ask(f"{self.name} {len(self.asked)} {kind} {scope}")
            await asyncio.sleep(self._choice.uniform(0, 2 * self.pause))  # a person's rhythm

    async def tells(self) -> None:
        """Has a handler note what is there."""
        await self.ask(f"{self.name} {len(self.asked)} tell all")


@pytest.mark.deadline(180)
async def test_no_increment_is_lost_or_doubled_when_sidecar_and_handlers_are_killed(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    kills = {"sidecar": 0, "handlers": 0}
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), _TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(
            Handlers(running, tmp_path, module="tests.faults.state_app")
        )
        processes = [await handlers.start() for _ in range(_PROCESSES)]
        for process in processes:
            await process.attached()
        people = [
            await stack.enter_async_context(Counting(running, f"p{number}", seed, pause=0.03))
            for number in range(_PEOPLE)
        ]
        counters = [
            await stack.enter_async_context(Counter(running, f"c{number}", seed))
            for number in range(_COUNTERS)
        ]
        for number in range(_ROUNDS):
            await asyncio.sleep(choice.uniform(0.3, 1.2))  # the random point
            if number % 2 == 0:
                await sidecar.kill()
                kills["sidecar"] += 1
            if number % 2 or choice.random() < 0.25:  # now and then both
                victim = choice.randrange(_PROCESSES)
                await processes[victim].kill()
                processes[victim] = await handlers.start()
                kills["handlers"] += 1
            if number % 2 == 0:
                await sidecar.start()
        for counter in counters:
            await counter.finish()
        for person in people:
            await person.finish()
        for person in people:
            await person.tells()
        for person in people:
            await handlers.noted("told", person=person.name)
        assert not handlers.surprises()
        asked = {
            (person.name, number)
            for person in people
            for number, text in enumerate(person.asked)
            if " tell " not in text
        }
        inside, outside = _compared(handlers.notes(), asked), Figures()
        for counter in counters:
            await counter.check(outside)
    took = time.monotonic() - began
    report(
        f"kill -9: {kills['sidecar']} x sidecar, {kills['handlers']} x handler process;"
        f" {sum(len(person.asked) for person in people)} turns, {took:.0f} s"
    )
    report(f"in turns, over {len(SCOPES)} scopes: {inside}")
    report(
        f"outside of turns: {outside}; {sum(c.retries for c in counters)} retries,"
        f" {sum(c.repeated for c in counters)} sent again after their answer,"
        f" {sum(c.given_up for c in counters)} given up"
    )
    assert inside.acknowledged > _ROUNDS
    assert inside.acknowledged_pushes > _ROUNDS
    assert outside.acknowledged > _ROUNDS
    assert outside.acknowledged_pushes > _ROUNDS


def _compared(notes: list[dict[str, Any]], asked: set[tuple[str, int]]) -> Figures:
    """Compares what is there in every scope with what handlers began, and what was acknowledged.

    What an attempt began is done at most once; what it saw acknowledged, exactly once. Every turn
    ended, so one of its attempts at least is there.
    """
    figures = Figures()
    told = {note["person"]: note for note in notes if note["what"] == "told"}
    begun = [note for note in notes if note["what"] == "begun"]
    done = {_attempt(note) for note in notes if note["what"] == "done"}
    assert len({_attempt(note) for note in begun}) == len(begun), "an attempt was delivered twice"
    turns: dict[tuple[str, int], int] = defaultdict(int)
    for note in begun:
        if note["kind"] != "value":
            continue
        person, number, attempt = _attempt(note)
        total = int(told[person]["sums"][note["scope"]][key_of(person, number)])
        added = times(total, addend(number, attempt))
        what = f"increment {_attempt(note)} in scope {note['scope']}"
        figures.increment(what, added, acknowledged=_attempt(note) in done)
        turns[person, number] += added
    for scope in SCOPES:
        # The app's is one document for all of them.
        for holder in [*told] if scope != "app" else [None]:
            here = [
                _attempt(note)
                for note in begun
                if note["kind"] == "document" and note["scope"] == scope
                and holder in (None, note["person"])
            ]  # fmt: skip
            tallies = [each["tallies"][scope] for each in told.values()]
            tally = (told[holder]["tallies"][scope] if holder else tallies[-1]) or {}
            marks = tally.get("marks", [])
            figures.pushed(
                tally.get("n", 0), marks, {mark_of(*each) for each in here},
                {mark_of(*each) for each in here if each in done},
            )  # fmt: skip
            for each in here:
                turns[each[:2]] += mark_of(*each) in marks
    assert turns.keys() == asked, turns.keys() ^ asked
    assert all(turns.values()), f"turns that left nothing: {[t for t, n in turns.items() if not n]}"
    return figures


def _attempt(note: dict[str, Any]) -> tuple[str, int, int]:
    return note["person"], note["number"], note["attempt"]

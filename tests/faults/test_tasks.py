"""Case 1 and 2 for tasks and schedules: whoever is killed, each ends once and keeps its result."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from capsule_protocol.v1 import types_pb2
from tests.faults.conftest import Report
from tests.faults.minutes import Minutes, Tick, lost
from tests.faults.processes import Handlers
from tests.faults.submitters import Asking, Submitter
from tests.support.ports import steady_port
from tests.support.sidecar import SidecarProcess

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "10"))
_PEOPLE = 3
_SUBMITTERS = 2
_PROCESSES = 2
_ENVIRONMENT = {
    "CAPSULE_TEST_CLOCK": "1",
    "CAPSULE_TIMING__LEASE_TERM": "6s",
    "CAPSULE_TIMING__FRESH_BEAT": "2s",
    "CAPSULE_TIMING__BEAT_INTERVAL": "500ms",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "300ms",
    "CAPSULE_TIMING__MAX_ATTEMPTS": "40",
    "CAPSULE_LIMITS__WAITING_MESSAGES": "5",
}
_ENDED, _COMPLETED, _FAILED = 3, 3, 4
_TASKS = (
    "SELECT i.key, i.name, i.state, i.status, i.attempt, i.reason, i.error_type AS error,"
    " j.args, j.result, j.failures"
    " FROM invocations AS i JOIN jobs AS j ON j.invocation = i.id WHERE i.kind = 7"
)
_TICKS = (
    "SELECT j.start_ms, i.create_ms, i.end_ms, i.state, i.status, i.attempt"
    " FROM invocations AS i JOIN jobs AS j ON j.invocation = i.id WHERE i.kind = 8"
)
_EFFECTS = "SELECT key, body FROM documents WHERE collection = 'effects'"


@dataclass
class Task:
    """A task as it is stored."""

    key: str
    name: str
    state: int
    status: int
    attempt: int
    reason: str
    error: str
    args: Any
    result: Any
    failures: int


@pytest.mark.deadline(240)
async def test_tasks_end_once_and_ticks_come_once_when_sidecar_and_handlers_are_killed(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    kills = {"sidecar": 0, "handlers": 0}
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), _ENVIRONMENT)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        minutes = Minutes(running)
        handlers = await stack.enter_async_context(
            Handlers(running, tmp_path, module="tests.faults.task_app")
        )
        started = minutes.now()
        processes = [await handlers.start() for _ in range(_PROCESSES)]
        for process in processes:
            await process.attached()
        declared = (started, minutes.now())
        people = [
            await stack.enter_async_context(Asking(running, f"p{number}", seed, pause=0.15))
            for number in range(_PEOPLE)
        ]
        submitters = [
            await stack.enter_async_context(Submitter(running, f"s{number}", seed))
            for number in range(_SUBMITTERS)
        ]
        for number in range(_ROUNDS):
            await asyncio.sleep(choice.uniform(0.2, 0.8))
            await minutes.quiet()
            if number % 2:
                await minutes.pass_one()
                await asyncio.sleep(choice.uniform(0.0, 0.2))  # the random point
            else:
                passing = asyncio.create_task(minutes.pass_one())
                await asyncio.sleep(choice.uniform(0.0, 0.1))  # the random point
                minutes.leave()
                await sidecar.kill()
                await lost(passing)
                kills["sidecar"] += 1
            if number % 2 or choice.random() < 0.4:  # now and then both
                victim = choice.randrange(_PROCESSES)
                await processes[victim].kill()
                processes[victim] = await handlers.start()
                kills["handlers"] += 1
            if number % 2 == 0:
                await sidecar.start()
                # Sometimes handlers are back, and have declared, before the time is.
                await asyncio.sleep(choice.choice((0.0, 1.0)))
                await minutes.arrive()
        for submitter in submitters:
            await submitter.finish()
        for person in people:
            await person.finish()
        while await submitters[0].unended():
            await minutes.quiet()
            await minutes.pass_one()
            await asyncio.sleep(0.5)  # what is due now runs
        await minutes.quiet()
        for submitter in submitters:
            await submitter.results()
        assert not handlers.surprises()
        notes = handlers.notes()
        logs = [await person.person.log(person.session_id) for person in people]
        ends = Counter(
            event.invocation_id
            for event in chain.from_iterable(logs)
            if event.WhichOneof("kind") == "invocation_ended"
            and event.invocation_ended.kind == types_pb2.INVOCATION_KIND_TASK
        )
        watched = {id_: found for each in submitters for id_, found in each.seen.items()}
        for id_, first in watched.items():
            assert await submitters[0].task(id_) == first, "a task has changed behind its end"
        await sidecar.kill()
        tasks, ticks, effects = _stored(tmp_path / "home")
        _counted(tmp_path / "home")
    marks = {text.split()[0]: text for person in people for text in person.asked}
    submitted = {mark: id_ for each in submitters for mark, id_ in each.submitted.items()}
    figures = _tasks_compared(tasks, notes, effects, set(marks) | set(submitted))
    by_mark = {task.args["mark"]: task for task in tasks}
    for mark, id_ in submitted.items():
        assert by_mark[mark].key == id_, "another task than was acknowledged"
    for note in notes:
        if note["what"] == "submitted":
            assert by_mark[note["mark"]].key == note["id"], "another task than was acknowledged"
    in_session = {by_mark[mark].key for mark, text in marks.items() if text.endswith(" session")}
    assert ends.keys() == in_session, "each end of a task in a session is in its log"
    assert set(ends.values()) <= {1}, f"ended more than once: {ends}"
    told = minutes.compare(declared, [Tick(*row[:3]) for row in ticks])
    _ticks_compared(ticks, notes, effects.pop("ticks"))
    took = time.monotonic() - began
    report(
        f"kill -9: {kills['sidecar']} x sidecar, {kills['handlers']} x handler process;"
        f" {sum(each.retries for each in submitters)} retries,"
        f" {sum(each.repeated for each in submitters)} submissions sent again; {took:.0f} s"
    )
    report(
        f"{len(tasks)} tasks ended once ({len(in_session)} of them seen in a session's log),"
        f" {figures}; {len(watched)} results waited for, the same at the end"
    )
    report(told)
    assert len(submitted) > _ROUNDS
    assert len(marks) > _ROUNDS
    assert len(ticks) > _ROUNDS / 2


def _counted(home: Path) -> None:
    """The count of tasks that wait is what a recount finds."""
    (path,) = home.glob("*.db")
    with closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT app, name, waiting FROM task_counts").fetchall()
        recount = (
            "SELECT app, name, count(*) FROM invocations WHERE kind = 7 AND state IN (0, 1)"
            " GROUP BY app, name"
        )
        assert set(kept) == set(database.execute(recount).fetchall())


def _stored(home: Path) -> tuple[list[Task], list[Any], dict[str, list[str]]]:
    (path,) = home.glob("*.db")
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(_TASKS)
        names = [column[0] for column in cursor.description]
        tasks = [Task(**dict(zip(names, row, strict=True))) for row in cursor]
        for task in tasks:
            task.args, task.result = json.loads(task.args), json.loads(task.result or "null")
        ticks = connection.execute(_TICKS).fetchall()
        effects = {}
        for key, body in connection.execute(_EFFECTS):
            found = json.loads(body)
            assert found["n"] == len(found["marks"]), f"{key} counts {found}"
            effects[key] = found["marks"]
        return tasks, ticks, effects


def _tasks_compared(
    tasks: list[Task],
    notes: list[dict[str, Any]],
    effects: dict[str, list[str]],
    asked: set[str],
) -> str:
    """Compares each task with what its attempts noted, and with the marks that they left."""
    noted: dict[str, dict[tuple[str, int], Any]] = defaultdict(dict)
    for note in notes:
        if "id" in note and "attempt" in note:
            place = (note["id"], note["attempt"])
            assert place not in noted[note["what"]], f"{note} is there twice"
            noted[note["what"]][place] = note
    names = Counter(task.args["mark"] for task in tasks)
    assert names.keys() == asked, names.keys() ^ asked
    assert set(names.values()) <= {1}, f"submitted once, there more often: {names}"
    again = failed_tries = lost_for_good = 0
    for task in tasks:
        mark = task.args["mark"]
        assert task.state == _ENDED, task
        attempts = {n for id_, n in noted["begun"] if id_ == task.key}
        assert not attempts or max(attempts) <= task.attempt, task
        left = Counter(effects.get(f"of {mark}", []))
        assert all(count == 1 for count in left.values()), f"an effect doubled: {left}"
        known = {f"{mark}/{n}" for n in attempts}
        assert left.keys() <= known, f"an effect of nobody: {left.keys() - known}"
        sure = {f"{mark}/{n}" for id_, n in noted["effect"] if id_ == task.key}
        assert sure <= left.keys(), f"an effect lost: {sure - left.keys()}"
        if task.name == "once":
            assert task.attempt == 1, task
            if task.status == _FAILED:
                assert task.reason == "LEASE_LOST", task
                assert task.result is None, task
                lost_for_good += 1
                continue
        assert task.status == _COMPLETED, task
        assert task.result == noted["returned"][task.key, task.attempt]["result"], task
        assert f"{mark}/{task.attempt}" in sure, task
        raised = sum(id_ == task.key for id_, _ in noted["raised"])
        # A try whose failure was not told before its process was killed counts as no failure.
        assert task.failures == task.args["failures"] <= raised, task
        failed_tries += task.failures
        again += task.attempt - 1 - task.failures
    return (
        f"{failed_tries} failed tries, {again} deliveries again,"
        f" {lost_for_good} lost that must not be delivered again;"
        f" {sum(map(len, effects.values()))} effects, none doubled"
    )


def _ticks_compared(ticks: list[Any], notes: list[dict[str, Any]], marks: list[str]) -> None:
    assert all(row[3:5] == (_ENDED, _COMPLETED) for row in ticks), ticks
    begun = {note["mark"] for note in notes if note["what"] == "tick"}
    sure = {note["mark"] for note in notes if note["what"] == "tick effect"}
    assert len(marks) == len(set(marks)), "an effect of a tick doubled"
    assert sure <= set(marks) <= begun
    first = sum(note["what"] == "tick" and note["attempt"] == 1 for note in notes)
    assert first <= len(ticks), "more ticks began than there are"
    assert len(ticks) <= len(sure) <= len(begun) <= sum(row[5] for row in ticks)

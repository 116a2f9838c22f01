"""Cost grows with work done, never with what is stored: the plans of all queries, and their steps.

SQLite's plans here are made without statistics; its virtual machine's steps are counted, so that
nothing depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event

from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import (
    Answer,
    DataPatch,
    Declarations,
    FileQuestion,
    Lease,
    Outcome,
    OutcomeStatus,
    Schedule,
    TaskFilter,
    TaskStatus,
)
from capsule_sidecar.storage import (
    attempts,
    inspecting,
    job_reads,
    leases,
    log,
    log_reads,
    offers,
    page_tokens,
    people,
    schedules,
    session_reads,
    unfinished,
    whole_schema,
    work,
)
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.rows import Statements
from capsule_sidecar.storage.tables import Tables
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage import tasking
from tests.integration.storage.asking import acknowledge, answer, ask, upload
from tests.integration.storage.store import EVERYTHING, Sidecar, Store, request_key

# Tables that hold as many rows as apps were made, processes are attached, or streams are open.
SMALL = {"apps", "processes", "streams", "settings"}
# Partial indexes that hold no more than waits now: who walks one looks at nothing else.
WAITING = {"ix_prompts_expire_ms"}
GROWING = {table.name for table in whole_schema.metadata.sorted_tables} - SMALL


def _play_turn(unit: Unit, sidecar: Sidecar, session: str, text: str) -> None:
    """A turn of one operation: a message, an answer, an end."""
    request = Request(Method.SEND_MESSAGE, request_key(), digest(session, text))
    sent = people.send_message(unit, sidecar.ada, request, session, new_id("msg"), text)
    lease = Lease(sent.ids[1], 1)
    content = digest(lease.invocation_id, text)
    request = Request(Method.REPLY, request_key(), content, content)
    log.reply(unit, sidecar.app, lease, request, new_id("msg"), text)
    outcome = Outcome(lease, OutcomeStatus.COMPLETED, DataPatch())
    attempts.finish(unit, sidecar.app, outcome, {})


async def _fill(sidecar: Sidecar, turns: int, others: int) -> str:
    """Returns a session with so many turns, beside so many others of the same and other people.

    Its first turn has as many answers as it has turns, and as many tasks wait.
    """
    await sidecar.attach(free=100)
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    lease = Lease(sent.ids[1], 1)
    await asyncio.gather(*(sidecar.reply(lease, f"{n}") for n in range(turns)))
    await sidecar.finish(lease)
    await asyncio.gather(
        *(
            sidecar.do(_play_turn, sidecar=sidecar, session=session, text=f"{n}")
            for n in range(turns)
        )
    )
    await asyncio.gather(*(_put_off(sidecar) for _ in range(turns)))
    bob = Person(sidecar.app, sidecar.ada.app_name, "web:bob")
    await asyncio.gather(
        *(sidecar.open(person=person) for person in (sidecar.ada, bob) for _ in range(others))
    )
    return session


def _put_off(sidecar: Sidecar) -> Awaitable[str]:
    """Submits a task for a time that no test sees."""
    return tasking.submit(sidecar, name="put-off", delay_ms=365 * 86_400_000)


# -- plans ----------------------------------------------------------------------------------------


@dataclass
class Heard:
    """The statements that were executed."""

    statements: set[str] = field(default_factory=set)

    def __call__(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.add(statement)


def _bad_steps(database: sqlite3.Connection, statement: str) -> list[str]:
    # No values: a plan that holds only for some is made anew at each execution.
    values = [None] * statement.count("?")
    plan = database.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    return [step for *_, step in plan if _bad(step)]


def _bad(step: str) -> bool:
    scanned = re.match(r"SCAN (\w+)(?: USING INDEX (\w+))?", step)
    walked = scanned and scanned[1] in GROWING and scanned[2] not in WAITING
    return bool(walked) or "TEMP B-TREE" in step


async def _tasks(sidecar: Sidecar, lease: Lease) -> None:
    """Plays what makes every statement of tasks."""
    outside = await tasking.submit(sidecar, lease, lock="one")
    inside = await tasking.submit(sidecar, lease, in_session=True)
    later = await tasking.submit(sidecar, lease, delay_ms=500, retries=1)
    for key in (outside, inside):
        await tasking.show(sidecar, lease, key)
    await tasking.show(sidecar, lease, outside, "again")
    await sidecar.attach("p9", takes=tasking.TASKS)
    await sidecar.do(lambda unit: unit.forget())
    await sidecar.reply(Lease(inside, 1), "of a task")
    for done in (0.1, 0.2):
        await tasking.progress(sidecar, outside, done)
    await sidecar.sweep()
    await sidecar.do(lambda unit: unit.forget())
    await tasking.end(sidecar, inside)
    await tasking.cancel(sidecar, task_ids=(later,))
    # One waits behind a task that was told to end, and begins with that end.
    await tasking.cancel(sidecar, task_ids=(outside,))
    await tasking.submit(sidecar, lease, lock="one")
    await sidecar.do(lambda unit: unit.forget())
    await tasking.end(sidecar, outside)
    await tasking.cancel(sidecar, name="sync")
    wanted = TaskFilter(name="sync", statuses=frozenset({TaskStatus.RUNNING}))
    page, token = await sidecar.read(job_reads.list_tasks, sidecar.app, TaskFilter("sync"), 1, "")
    await sidecar.read(job_reads.list_tasks, sidecar.app, wanted, 1, token)
    await sidecar.read(job_reads.count_tasks, sidecar.app, wanted)
    await tasking.task(sidecar, page[0].task_id)
    await sidecar.read(job_reads.has_ended, sidecar.app, page[0].task_id)


async def _schedules(sidecar: Sidecar) -> None:
    """Plays what makes every statement of schedules: ticks, a line that is lost, an end."""
    line = Schedule("often", "* * * * *", "UTC")
    for one in (replace(line, cron="0 0 29 2 *"), line):
        await sidecar.do(schedules.declare, app=sidecar.app, schedules=(one,))
    await sidecar.attach("p8", takes=Declarations(schedules=(replace(line, cron="0 * * * *"),)))
    sidecar.clock.advance(60_000)
    await sidecar.sweep()
    for lost in (line, replace(line, name="gone")):
        await sidecar.do(schedules.declare, app=sidecar.app, schedules=(lost,))
    await sidecar.lose_leases()
    # Whatever the second is: the next time of each has passed, and the lease's term behind it.
    sidecar.clock.advance(80_000)
    await sidecar.attach("p8", takes=Declarations(schedules=(replace(line, cron="0 * * * *"),)))
    await sidecar.sweep()
    assert len(await sidecar.read(inspecting.schedules, sidecar.app)) == 1


async def _everything(sidecar: Sidecar) -> None:
    """Plays what makes every statement of a running sidecar."""
    session = await _fill(sidecar, 3, 2)
    found = await sidecar.attach("p2", takes=EVERYTHING)
    sent = await sidecar.say(session, "hello")
    lease = Lease(sent.ids[1], 1)
    await sidecar.reply(lease, "an answer")
    await sidecar.show(lease, block_id="card")
    await sidecar.patch(lease, {"a": b"1", "b": b"2"})
    await sidecar.patch(lease, None, "a")
    await sidecar.title(lease, "a title")
    opened = await sidecar.stream(lease)
    stream = opened.answer.ids[0]
    await sidecar.checkpoint(stream, 0, 0, "text")
    await sidecar.stream(lease, stream_id=stream)
    await sidecar.complete(lease, stream)
    await sidecar.stream(lease, stream_id=stream)
    await sidecar.stream(lease)
    prompts = [await ask(sidecar, lease, f"{n}?", timeout_ms=1_000) for n in range(4)]
    file = await ask(sidecar, lease, "A file?", question=FileQuestion())
    await answer(sidecar, file, Answer(file_id=await upload(sidecar)))
    await sidecar.attach("p2", takes=EVERYTHING, claims=(lease,))
    await acknowledge(sidecar, file)
    lease = await sidecar.given_back(lease)
    await sidecar.reply(lease, "an answer")
    await ask(sidecar, lease, "0?", timeout_ms=1_000)
    await _tasks(sidecar, lease)
    await sidecar.do(lambda unit: unit.forget())
    await answer(sidecar, prompts[0])
    sidecar.clock.advance(1_000)
    await answer(sidecar, prompts[1])
    await sidecar.sweep()
    await ask(sidecar, lease, "open?")
    await sidecar.say(session, "waits")
    await sidecar.stop(session, lease.invocation_id)
    # What a group remembers of the one before needs no query: let it be read again.
    await sidecar.do(lambda unit: unit.forget())
    await sidecar.finish(lease)
    await sidecar.beat(found.process)
    await sidecar.do(leases.beat_by_key, app=sidecar.app, key="p2")
    await sidecar.attach("p2", claims=(lease,))
    await sidecar.do(work.settle_undeclared, app=sidecar.app)
    await _schedules(sidecar)
    await sidecar.sweep()
    for page in ((-1, b""), (1, b"\1")):
        await sidecar.do(leases.forget_requests, after=page, rows=2)
    sidecar.clock.advance(2 * 86_400_000)
    await sidecar.do(leases.forget_requests, after=(-1, b""), rows=1_000)
    await sidecar.sweep()
    await sidecar.lose_leases()
    await sidecar.attach("p3", takes=EVERYTHING)
    await sidecar.say(session, "and?")
    await sidecar.close(session)
    for read in _reads(sidecar, await sidecar.number(session), session).values():
        await sidecar.journal.read(read)
    await sidecar.delete(session)


async def test_no_query_of_a_running_sidecar_walks_a_table_that_grows(
    sqlite_store: Store,
) -> None:
    heard = Heard()
    async with sqlite_store.sidecar() as sidecar:
        database = sidecar.journal.database
        event.listen(database.engine, "before_cursor_execute", heard)
        await _everything(sidecar)
        connection = sqlite3.connect(str(database.engine.url.database))
        found = {
            statement: bad
            for statement in heard.statements
            if (bad := _bad_steps(connection, statement))
        }
        connection.close()
    assert len(heard.statements) > 60
    assert not found, found


def test_no_statement_that_writes_rows_walks_a_table(sqlite_store: Store) -> None:
    database = sqlite_store.database()
    connection = sqlite3.connect(str(database.engine.url.database))
    tables = Tables(database)
    texts: list[str] = [tables.chunks_of_stream]
    for statements in vars(tables).values():
        if isinstance(statements, Statements):
            mutable = "SET  WHERE" not in statements.update
            texts += [statements.insert, statements.delete]
            texts += [statements.update] if mutable else []
    assert len(texts) > 25
    for text in texts:
        assert not _bad_steps(connection, text), text
    connection.close()
    database.close()


def test_a_walk_and_a_sort_are_seen(sqlite_store: Store) -> None:
    """What the tests above look for is what SQLite says."""
    database = sqlite_store.database()
    connection = sqlite3.connect(str(database.engine.url.database))
    for bad in (
        "SELECT * FROM invocations WHERE status = ?",
        "SELECT * FROM events WHERE session = ? ORDER BY app",
        "SELECT count(*) FROM requests WHERE invocation = ?",
    ):
        assert _bad_steps(connection, bad), bad
    connection.close()
    database.close()


# -- steps ----------------------------------------------------------------------------------------


class Steps:
    """Counts the steps of SQLite's virtual machine."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> int:
        self.taken += 1
        return 0

    @contextmanager
    def on(self, connection: Connection) -> Iterator[None]:
        driver: Any = connection.connection.dbapi_connection
        driver.set_progress_handler(self, 1)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 1)


Read = Callable[[Connection], object]


def _reads(sidecar: Sidecar, number: int, key: str) -> dict[str, Read]:
    """What readers ask, of a session with many items and a person with many sessions."""
    app = sidecar.app

    def head(connection: Connection) -> int:
        return log_reads.head(connection, number)

    def deep(connection: Connection) -> object:
        # The page before the newest but one: a person who scrolls.
        _, token = session_reads.timeline(connection, number, 20, 1 << 20, None)
        return session_reads.timeline(
            connection, number, 20, 1 << 20, page_tokens.parse_page_token(token, "timeline", 3)
        )

    def oldest(connection: Connection) -> object:
        # In the middle of the first turn.
        return session_reads.timeline(connection, number, 20, 1 << 20, (number, 3, 30))

    def second(connection: Connection) -> object:
        _, token = session_reads.list_sessions(connection, app, "web:ada", "", 2, "")
        return session_reads.list_sessions(connection, app, "web:ada", "", 2, token)

    def last(connection: Connection) -> object:
        token = page_tokens.page_token("sessions", 5, 5)
        return session_reads.list_sessions(connection, app, "web:ada", "", 2, token)

    def history(connection: Connection) -> object:
        place = head(connection)
        return session_reads.timeline(connection, number, 50, 1 << 20, None, messages_before=place)

    def older_history(connection: Connection) -> object:
        return session_reads.timeline(
            connection, number, 20, 1 << 20, (number, 3, 30), messages_before=40
        )

    return {
        "a session": lambda c: session_reads.session_by_key(c, app, key),
        "a person's session": lambda c: session_reads.own_session(c, app, key, "web:ada"),
        "the newest page": lambda c: session_reads.timeline(c, number, 20, 1 << 20, None),
        "the page before": deep,
        "the oldest page": oldest,
        "history": history,
        "older history": older_history,
        "what has not ended": lambda c: session_reads.pending(c, number, 200),
        "sessions": lambda c: session_reads.list_sessions(c, app, "web:ada", "", 2, ""),
        "more sessions": second,
        "the oldest sessions": last,
        "sessions by their title": lambda c: session_reads.list_sessions(
            c, app, "web:bob", "x", 2, ""
        ),
        "the newest events": lambda c: log_reads.events_after(
            c, number, head(c) - 10, 100, 1 << 20
        ),
        "the oldest events": lambda c: log_reads.events_after(c, number, 0, 10, 1 << 20),
        "the lowest offset": lambda c: log_reads.lowest_offset(c, number),
        "the newest position": lambda c: log_reads.last_position(c, app),
        "a channel's events": lambda c: log_reads.channel_events_after(
            c, app, "web", 20, 1 << 60, 20
        ),
        "data": lambda c: session_reads.session_data(c, number),
        "an event": lambda c: log_reads.event_at(c, number, 3),
        "open streams": unfinished.open_texts,
        "open prompts": unfinished.open_questions,
        "a person's events": lambda c: log_reads.user_events_after(c, 1, 20, 10),
    }


# What has to look at each session of a person.
_BY_SESSIONS = {"sessions by their title", "a person's events"}


async def _read_steps(sidecar: Sidecar, session: str) -> dict[str, int]:
    taken = {}
    number = await sidecar.number(session)
    for name, read in _reads(sidecar, number, session).items():
        steps = Steps()

        def counted(connection: Connection, read: Read = read, steps: Steps = steps) -> None:
            with steps.on(connection):
                read(connection)

        await sidecar.journal.read(counted)
        taken[name] = steps.taken
    return taken


async def _write_steps(sidecar: Sidecar, session: str) -> dict[str, int]:
    """What a turn and what goes on beside it costs, in a session with many items."""
    taken: dict[str, int] = {}
    steps = Steps()

    def begin(unit: Unit) -> None:
        steps.taken = 0
        unit.forget()
        unit.connection.connection.dbapi_connection.set_progress_handler(steps, 1)  # type: ignore[union-attr]

    def end(unit: Unit) -> None:
        unit.connection.connection.dbapi_connection.set_progress_handler(None, 1)  # type: ignore[union-attr]

    async def counted(name: str, work_: Callable[[], Awaitable[Any]]) -> Any:
        await sidecar.do(begin)
        try:
            return await work_()
        finally:
            await sidecar.do(end)
            taken[name] = steps.taken

    sent = await counted("a message", partial(sidecar.say, session, "hello"))
    waits = await sidecar.say(session, "waits")
    lease = Lease(sent.ids[1], 1)
    await counted("a reply", partial(sidecar.reply, lease, "an answer"))
    await counted("a block", partial(sidecar.show, lease, block_id="card"))
    await counted("a block again", partial(sidecar.show, lease, block_id="card"))
    opened = await counted("a stream", partial(sidecar.stream, lease))
    stream = opened.answer.ids[0]
    await counted("a checkpoint", partial(sidecar.checkpoint, stream, 0, 0, "text"))
    await counted("a stream's end", partial(sidecar.complete, lease, stream))
    prompt = await counted("a prompt", partial(ask, sidecar, lease))
    await counted("an answer", partial(answer, sidecar, prompt))
    await counted("an Attach that tells of it", partial(sidecar.attach, free=100, claims=(lease,)))
    await counted("what acknowledges it", partial(acknowledge, sidecar, prompt))
    await ask(sidecar, lease, "Which?", timeout_ms=1)
    sidecar.clock.advance(1)
    await counted("a sweep that ends a prompt", sidecar.sweep)
    await ask(sidecar, lease, "Withdrawn?")
    await counted("an outcome that lets the next run", partial(sidecar.finish, lease))
    lease = await counted("a turn given back", partial(sidecar.given_back, Lease(waits.ids[1], 1)))
    await counted("a reply of a later attempt", partial(sidecar.reply, lease, "an answer"))
    await counted("a stop", partial(sidecar.stop, session, lease.invocation_id))
    await counted("an outcome", partial(sidecar.finish, lease))
    await counted("a task", partial(_put_off, sidecar))
    (process,) = sidecar.slots.processes(sidecar.app)
    await counted("a beat", partial(sidecar.beat, process))
    await counted("a sweep", sidecar.sweep)
    await counted(
        "a look for work",
        partial(sidecar.do, offers.lease_ready, app=sidecar.app, process=process),
    )
    await counted(
        "a page of request ids",
        partial(sidecar.do, leases.forget_requests, after=(1 << 8 | 1, b"\xf0"), rows=10),
    )
    await counted("an Attach", partial(sidecar.attach, free=100))
    other = await counted("a session", sidecar.open)
    await counted("a deletion of another session", partial(sidecar.delete, other))
    await counted("a closing", partial(sidecar.close, session))
    return taken


@pytest.mark.deadline(120)
async def test_no_read_or_write_takes_more_steps_where_more_is_stored(
    sqlite_store: Store, sqlite_file: Any, tmp_path: Any
) -> None:
    from tests.integration.storage.conftest import sqlite_copy

    taken = []
    for store, turns, others in (
        (sqlite_store, 60, 10),
        (sqlite_copy(sqlite_file, tmp_path / "large.db"), 900, 200),
    ):
        async with store.sidecar() as sidecar:
            session = await _fill(sidecar, turns, others)
            read = await _read_steps(sidecar, session)
            taken.append(read | await _write_steps(sidecar, session))
    small, large = taken
    assert len(small) > 35
    more = {
        name: (small[name], large[name])
        for name in small
        if large[name] > 1.2 * small[name] and name not in _BY_SESSIONS
    }
    assert not more, more

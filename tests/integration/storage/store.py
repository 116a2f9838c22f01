"""Storage as a sidecar uses it, without the sidecar: a journal, places of processes, and a clock.

Time is the database's own plus what a test adds: nothing here waits for a lease to end.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import (
    Block,
    DataPatch,
    Declarations,
    InvocationStatus,
    Lease,
    Outcome,
    OutcomeStatus,
    Terms,
)
from capsule_sidecar.storage import (
    apps,
    attempts,
    leases,
    log,
    log_reads,
    offers,
    page_tokens,
    people,
    session_reads,
    streams,
    whole_schema,
    work,
    work_schema,
)
from capsule_sidecar.storage.commits import Appended, Leased, Notice
from capsule_sidecar.storage.database import EVERY_APP, Database
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.requests import Answer, Method, Request
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")

EVERYTHING = Declarations(message=True, enter=True, exit=True, actions=frozenset({"click"}))
MESSAGES = Declarations(message=True)
# Sweeps here come a second or two of the clock apart, and what the machine takes comes on top.
TERMS = Terms(lease_ms=15_000, late_sweep_ms=10_000, max_attempts=3, max_waiting=5)
PAGE = 1 << 20


def request_key() -> bytes:
    """Returns a new request id."""
    return uuid.uuid4().bytes


class Clock:
    """What is added to the database's time, for every sidecar of a store."""

    def __init__(self) -> None:
        self.shift_ms = 0

    def advance(self, milliseconds: int) -> None:
        """Lets time pass."""
        self.shift_ms += milliseconds


@dataclass
class Told:
    """What the journal told the loop, in order."""

    appended: list[Appended] = field(default_factory=list)
    leased: list[Leased] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    patches: list[tuple[int, DataPatch]] = field(default_factory=list)

    def patched(self, session: int, patch: DataPatch) -> None:
        self.patches.append((session, patch))

    def committed(
        self, appended: Sequence[Appended], leased: Sequence[Leased], notices: Sequence[Notice]
    ) -> None:
        self.appended.extend(appended)
        self.notices.extend(notices)
        self.leased.extend(leased)


@dataclass
class Sidecar:
    """One sidecar's storage: what the runtime asks of it, in a test's words."""

    journal: Journal
    slots: Slots
    told: Told
    clock: Clock
    app: int
    ada: Person

    def do(self, operation: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Submits an operation for the app."""
        return self.journal.submit(self.app, partial(operation, **kwargs) if kwargs else operation)

    async def read(self, work_: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Reads in a snapshot."""
        return await self.journal.read(lambda connection: work_(connection, *args, **kwargs))

    async def of_app(self, name: str) -> Sidecar:
        """Returns the same storage as another app uses it."""
        number = await self.journal.submit(0, partial(apps.make_app, name=name))
        return replace(self, app=number, ada=Person(number, name, self.ada.identity))

    # -- people -------------------------------------------------------------------------------

    async def open(
        self, title: str = "", *, key: bytes | None = None, person: Person | None = None
    ) -> str:
        """Opens a session."""
        who = person or self.ada
        request = Request(Method.OPEN_SESSION, key or request_key(), digest(who.identity, title))
        answer = await self.journal.submit(
            who.app, partial(people.open_session, person=who, request=request, title=title)
        )
        return answer.ids[0]

    def say(
        self, session: str, text: str, *, key: bytes | None = None, person: Person | None = None
    ) -> asyncio.Future[Answer]:
        """Sends a message; answers offset, and message, invocation and time as ids."""
        who = person or self.ada
        request = Request(Method.SEND_MESSAGE, key or request_key(), digest(session, text))
        return self.journal.submit(
            who.app,
            partial(
                people.send_message, person=who, request=request, session_key=session,
                message_id=new_id("msg"), text=text,
            ),
        )  # fmt: skip

    def click(self, session: str, name: str = "click") -> asyncio.Future[Answer]:
        """Sends an action."""
        request = Request(Method.SEND_ACTION, request_key(), digest(session, name))
        return self.do(
            people.send_action, person=self.ada, request=request, session_key=session, name=name,
            body=b"",
        )  # fmt: skip

    def stop(self, session: str, invocation: str) -> asyncio.Future[Answer]:
        """Stops an invocation."""
        request = Request(Method.STOP_INVOCATION, request_key(), digest(session, invocation))
        return self.do(
            people.stop_invocation, person=self.ada, request=request, session_key=session,
            invocation_key=invocation,
        )  # fmt: skip

    def close(self, session: str) -> asyncio.Future[Answer]:
        """Closes a session."""
        request = Request(Method.CLOSE_SESSION, request_key(), digest(session))
        return self.do(people.close_session, person=self.ada, request=request, session_key=session)

    def delete(self, session: str, *, key: bytes | None = None) -> asyncio.Future[Answer]:
        """Deletes a session."""
        request = Request(Method.DELETE_SESSION, key or request_key(), digest(session))
        return self.do(people.delete_session, person=self.ada, request=request, session_key=session)

    # -- processes ------------------------------------------------------------------------------

    async def attach(
        self,
        key: str = "p1",
        *,
        free: int = 10,
        takes: Declarations = MESSAGES,
        claims: tuple[Lease, ...] = (),
    ) -> leases.Attached:
        """Attaches a process with free places, as the dispatcher does."""
        found = await self.do(leases.attach, app=self.app, key=key, claimed=claims)
        self.slots.attach(found.process, self.app, takes, free - found.held, self)
        await self.do(work.settle_undeclared, app=self.app)
        await self.do(offers.lease_ready, app=self.app, process=found.process)
        return found

    def beat(self, process: int) -> asyncio.Future[None]:
        """Renews the leases of a process."""
        self.slots.beat(process)
        return self.do(leases.beat, process=process)

    def sweep(self) -> asyncio.Future[bool]:
        """Sweeps once."""
        return self.journal.submit(EVERY_APP, lambda unit: leases.sweep(unit, {}))

    async def lose_leases(self) -> None:
        """Lets every process vanish and every lease end, with sweeps as punctual as they should."""
        for process in self.slots.processes(self.app):
            self.slots.detach(process, self)
        for _ in range(TERMS.lease_ms // 1_000 + 1):
            self.clock.advance(1_000)
            await self.sweep()

    async def taken_over(self, key: str = "p2") -> Lease:
        """Lets every process vanish, and another take their work; returns what it got last."""
        await self.lose_leases()
        await self.attach(key)
        return self.held[-1]

    @property
    def held(self) -> list[Lease]:
        """What was leased to processes of this sidecar, in order."""
        return [Lease(entry.invocation.key, entry.attempt) for entry in self.told.leased]

    # -- handlers ---------------------------------------------------------------------------------

    def reply(
        self, lease: Lease, text: str, *, key: bytes | None = None, match: str = ""
    ) -> asyncio.Future[Answer]:
        """Replies; `match` is the request's key."""
        content = digest(lease.invocation_id, text, match)
        request = Request(
            Method.REPLY, key or request_key(), content,
            digest("key", match) if match else content,
        )  # fmt: skip
        return self.do(
            log.reply, app=self.app, lease=lease, request=request, message_id=new_id("msg"),
            text=text,
        )  # fmt: skip

    def show(
        self, lease: Lease, payload: bytes = b"{}", *, block_id: str = ""
    ) -> asyncio.Future[Answer]:
        """Shows a block."""
        content = digest(lease.invocation_id, block_id, payload)
        request = Request(Method.SHOW_BLOCK, request_key(), content, None if block_id else content)
        return self.do(
            log.show_block, app=self.app, lease=lease, request=request,
            block=Block("card", payload, block_id),
        )  # fmt: skip

    def title(self, lease: Lease, title: str) -> asyncio.Future[Answer]:
        """Sets the title."""
        request = Request(Method.SET_TITLE, request_key(), digest(lease.invocation_id, title))
        return self.do(log.set_title, app=self.app, lease=lease, request=request, title=title)

    def patch(
        self, lease: Lease, set_json: dict[str, bytes] | None = None, *delete: str
    ) -> asyncio.Future[Answer]:
        """Changes the session's data."""
        patch = DataPatch(set_json or {}, delete)
        request = Request(Method.UPDATE_DATA, request_key(), digest(lease.invocation_id))
        return self.do(log.update_data, app=self.app, lease=lease, request=request, patch=patch)

    def stream(
        self, lease: Lease, *, match: str = "", stream_id: str = ""
    ) -> asyncio.Future[log.StreamAnswer]:
        """Opens a stream."""
        identity = uuid.UUID(stream_id) if stream_id else uuid.uuid4()
        request = Request(
            Method.OPEN_STREAM, identity.bytes, digest(lease.invocation_id, match),
            streams.stream_match(match),
        )  # fmt: skip
        return self.do(
            log.open_stream, app=self.app, lease=lease, request=request, key=str(identity),
            write_key=match,
        )  # fmt: skip

    def checkpoint(
        self, stream: str, number: int, place: int, text: str, *, revision: int = 0
    ) -> asyncio.Future[bool]:
        """Keeps a piece of a stream's text."""
        return self.do(
            streams.checkpoint, key=stream, number=number, place=place, revision=revision, text=text
        )

    def complete(
        self, lease: Lease, stream: str, text: str | None = None, *, interrupted: bool = False
    ) -> asyncio.Future[log.StreamAnswer]:
        """Closes a stream."""
        request = Request(Method.CLOSE_STREAM, request_key(), digest(lease.invocation_id, stream))
        return self.do(
            log.close_stream, app=self.app, lease=lease, request=request, key=stream, text=text,
            interrupted=interrupted,
        )  # fmt: skip

    def finish(
        self,
        lease: Lease,
        status: OutcomeStatus = OutcomeStatus.COMPLETED,
        *,
        data: DataPatch | None = None,
        texts: dict[str, str] | None = None,
    ) -> asyncio.Future[InvocationStatus]:
        """Sends an outcome."""
        outcome = Outcome(lease, status, data or DataPatch())
        return self.do(attempts.finish, app=self.app, outcome=outcome, texts=texts or {})

    async def turn(self, session: str, text: str, *answers: str) -> Lease:
        """Plays a whole turn; a process must be attached."""
        sent = await self.say(session, text)
        lease = Lease(sent.ids[1], 1)
        for answer in answers:
            await self.reply(lease, answer)
        await self.finish(lease)
        return lease

    async def given_back(self, lease: Lease) -> Lease:
        """Gives an attempt back, so that its work is delivered again at once."""
        await self.finish(lease, OutcomeStatus.RELEASED)
        assert self.held[-1].invocation_id == lease.invocation_id
        return self.held[-1]

    # -- what is there -----------------------------------------------------------------------------

    async def number(self, session: str) -> int:
        """Returns how rows refer to a session."""
        return (await self.read(session_reads.session_by_key, self.app, session)).number

    async def log(self, session: str) -> list[events_pb2.Event]:
        """Returns a session's whole log."""
        number = await self.number(session)
        found = await self.read(log_reads.events_after, number, 0, 100_000, 1 << 40)
        parsed = [events_pb2.Event.FromString(entry.data) for entry in found]
        for entry, event in zip(found, parsed, strict=True):
            assert (event.offset, event.position) == (entry.offset, entry.position)
        return parsed

    async def kinds(self, session: str) -> list[str]:
        """Returns the kinds of a session's events."""
        return [str(event.WhichOneof("kind")) for event in await self.log(session)]

    async def items(
        self,
        session: str,
        size: int = 1_000,
        max_bytes: int = PAGE,
        token: str = "",
        *,
        messages_before: int | None = None,
    ) -> tuple[list[events_pb2.Event], str]:
        """Returns a page of a session's timeline and the next token."""
        number = await self.number(session)
        name = "timeline" if messages_before is None else "messages"
        before = page_tokens.parse_page_token(token, name, 3)
        found, following = await self.read(
            session_reads.timeline, number, size, max_bytes, before, messages_before=messages_before
        )
        return [events_pb2.Event.FromString(item.event) for item in found], following

    async def texts(self, session: str) -> list[str]:
        """Returns the texts of a session's messages in the timeline's order."""
        items, _ = await self.items(session, messages_before=1 << 60)
        return [item.message_added.message.text for item in items]

    async def invocation(self, key: str) -> dict[str, Any]:
        """Returns an invocation's row."""

        def row(connection: Connection) -> dict[str, Any]:
            where = work_schema.invocations.c.key == key
            found = (
                connection.execute(select(work_schema.invocations).where(where)).mappings().one()
            )
            return dict(found)

        return await self.journal.read(row)

    async def status(self, key: str) -> InvocationStatus:
        """Returns how far an invocation is."""
        return InvocationStatus((await self.invocation(key))["status"])

    async def rows(self) -> dict[str, int]:
        """Returns how many rows each table has."""

        def counts(connection: Connection) -> dict[str, int]:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in whole_schema.metadata.sorted_tables
            }

        return await self.journal.read(counts)


class Store:
    """A database that can be opened, by several sidecars and again.

    Args:
        opens: Opens it.
    """

    def __init__(self, opens: Callable[[], Database]) -> None:
        self._opens = opens
        self.clock = Clock()

    def database(self) -> Database:
        """Opens the database on this store's clock."""
        database = self._opens()
        now = database.now_ms
        database.now_ms = (  # type: ignore[method-assign]  # the one thing that a test moves
            lambda cursor: now(cursor) + self.clock.shift_ms
        )
        return database

    @asynccontextmanager
    async def sidecar(self, terms: Terms = TERMS, app: str = "support") -> AsyncIterator[Sidecar]:
        """Runs a sidecar's storage until left."""
        slots, told = Slots(fresh=3_600), Told()
        async with Journal(self.database(), slots, terms, readers=2) as journal:
            journal.listen(told)
            number = await journal.submit(0, partial(apps.make_app, name=app))
            ada = Person(number, app, "web:ada")
            yield Sidecar(journal, slots, told, self.clock, number, ada)


def offsets(events: list[events_pb2.Event]) -> list[int]:
    """Returns the offsets of events."""
    return [event.offset for event in events]


def nothing(_: Unit) -> None:
    """An operation that does nothing."""


def leases_of(entries: list[Leased]) -> Iterator[Lease]:
    """Yields leases as handlers name them."""
    for entry in entries:
        yield Lease(entry.invocation.key, entry.attempt)

"""What an operator may know and do: processes, apps, invocations, sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, select

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import Task
from capsule_sidecar.runtime.checks import page_size
from capsule_sidecar.runtime.dispatcher import Dispatcher
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.processes import Process
from capsule_sidecar.storage import inspecting, retrying, schema
from capsule_sidecar.storage.inspecting import (
    InvocationFilter,
    InvocationInfo,
    ScheduleInfo,
    SessionEnd,
    SessionInfo,
)
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.page_tokens import page_token, parse_page_token
from capsule_sidecar.storage.requests import Method, Request

__all__ = [
    "AppInfo",
    "InvocationFilter",
    "InvocationInfo",
    "Operations",
    "ScheduleInfo",
    "SessionEnd",
    "SessionInfo",
]


@dataclass(frozen=True, slots=True)
class AppInfo:
    """An app as an operator sees it.

    Attributes:
        name: Its name.
        processes: Those that are attached to this sidecar.
        schedules: Its schedules as they are in force, by name.
    """

    name: str
    processes: Sequence[Process]
    schedules: Sequence[ScheduleInfo]


class Operations:
    """Answers the operator.

    Args:
        journal: The log and the queue.
        dispatcher: The processes.
        hub: The followers.
        limits: The sizes of pages.
    """

    def __init__(self, journal: Journal, dispatcher: Dispatcher, hub: Hub, limits: Limits) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._hub = hub
        self._limits = limits

    @property
    def processes(self) -> list[Process]:
        """The processes that are attached to this sidecar."""
        return self._dispatcher.processes

    @property
    def followers(self) -> int:
        """How many follow anything."""
        return self._hub.followers

    @property
    def storage(self) -> str:
        """The kind of database."""
        return self._journal.database.name

    async def apps(self, size: int, token: str) -> tuple[list[AppInfo], str]:
        """Return a page of apps with their processes and schedules, and the next token."""
        size = page_size(size, self._limits)
        after = parse_page_token(token, "apps", 1)
        columns = schema.apps.c

        def page(connection: Connection) -> list[tuple[int, str, list[ScheduleInfo]]]:
            statement = select(columns.id, columns.name).order_by(columns.name).limit(size + 1)
            if after is not None:
                previous = select(columns.name).where(columns.id == after[0]).scalar_subquery()
                statement = statement.where(columns.name > previous)
            return [
                (number, name, inspecting.schedules(connection, number))
                for number, name in connection.execute(statement).all()
            ]

        found = await self._journal.read(page)
        following = page_token("apps", found[size - 1][0]) if len(found) > size else ""
        by_app: dict[int, list[Process]] = {}
        for process in self.processes:
            by_app.setdefault(process.app, []).append(process)
        return [
            AppInfo(name, by_app.get(number, []), schedules)
            for number, name, schedules in found[:size]
        ], following

    async def invocations(
        self, app: str, wanted: InvocationFilter, size: int, token: str
    ) -> tuple[list[InvocationInfo], str]:
        """Return a page of an app's invocations, the newest first, and the next token.

        A page may be short, or empty, with more behind it.

        Raises:
            NotFound: There is no such app, or no such session in it.
            InvalidArgument: Size or token is malformed.
        """
        size = page_size(size, self._limits)

        def page(connection: Connection) -> tuple[list[InvocationInfo], str]:
            number = inspecting.app_number(connection, app)
            return inspecting.invocations(connection, number, wanted, size, token)

        return await self._journal.read(page)

    async def invocation(self, app: str, key: str) -> tuple[InvocationInfo, Task | None]:
        """Return an invocation, and the task where it is one.

        Raises:
            NotFound: There is no such app, or no such invocation in it.
        """
        return await self._journal.read(
            lambda c: inspecting.invocation(c, inspecting.app_number(c, app), key)
        )

    async def retry(self, app: str, request_id: str, key: str) -> str:
        """Let a failed invocation be done again; return the id of what does it.

        Raises:
            InvalidArgument: The request id is no UUID.
            RequestIdReused: It was used for another invocation.
            NotFound: There is no such app, or no such invocation in it.
            NotFailed: It did not fail.
            NotRepeatable: Nothing of its kind is done again.
            SessionClosed: Its session takes no more input.
            TooManyWaiting: Too many user messages are waiting in its session.
        """
        request = Request(Method.RETRY_INVOCATION, parse_request_id(request_id), digest(key))
        number = await self._journal.read(lambda c: inspecting.app_number(c, app))
        answer = await self._journal.submit(
            number, partial(retrying.retry, app=number, request=request, key=key)
        )
        return answer.ids[0]

    async def sessions(
        self, app: str, user: str, size: int, token: str
    ) -> tuple[list[SessionInfo], str]:
        """Return a page of an app's sessions, the newest first, and the next token.

        Args:
            app: The app.
            user: Only of the user with this id or identity; empty: of all.
            size: Sessions of a page; 0: the default.
            token: Where the last page ended; empty: the first page.

        Raises:
            NotFound: There is no such app.
            InvalidArgument: Size or token is malformed.
        """
        size = page_size(size, self._limits)

        def page(connection: Connection) -> tuple[list[SessionInfo], str]:
            number = inspecting.app_number(connection, app)
            return inspecting.sessions(connection, number, user, size, token)

        return await self._journal.read(page)

    async def session(self, app: str, key: str, events: int) -> SessionEnd:
        """Return a session with its data and its newest events: as many as asked, if they fit.

        Raises:
            NotFound: There is no such app, or no such session in it.
            InvalidArgument: The number of events is negative.
        """
        if events < 0:
            raise InvalidArgument("events", "must not be negative")
        wanted = page_size(events, self._limits)

        def read(connection: Connection) -> SessionEnd:
            number = inspecting.app_number(connection, app)
            return inspecting.session(connection, number, key, wanted, self._limits.page_bytes)

        found = await self._journal.read(read)
        fill = self._hub.addresses.event
        return replace(found, events=[fill(event) for event in found.events])

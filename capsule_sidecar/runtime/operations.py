"""What an operator may know: processes, apps, invocations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import InvocationKind, InvocationStatus
from capsule_sidecar.runtime.checks import page_size
from capsule_sidecar.runtime.dispatcher import Dispatcher, Process
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.storage import schema
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.reads import page_token, parse_page_token


@dataclass(frozen=True, slots=True)
class InvocationInfo:
    """An invocation as an operator sees it. Times are Unix epoch milliseconds, 0 for none."""

    invocation_id: str
    session_id: str
    kind: InvocationKind
    status: InvocationStatus
    attempt: int
    create_ms: int
    end_ms: int
    process_id: str
    reason: str
    reference_id: str
    error_type: str


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

    async def apps(self, size: int, token: str) -> tuple[list[tuple[str, list[Process]]], str]:
        """Return a page of apps with their processes, and the next token."""
        size = page_size(size, self._limits)
        after = parse_page_token(token, "apps", 1)
        columns = schema.apps.c

        def page(connection: Connection) -> list[tuple[int, str]]:
            statement = select(columns.id, columns.name).order_by(columns.name).limit(size + 1)
            if after is not None:
                previous = select(columns.name).where(columns.id == after[0]).scalar_subquery()
                statement = statement.where(columns.name > previous)
            return [(number, name) for number, name in connection.execute(statement)]

        found = await self._journal.read(page)
        following = page_token("apps", found[size - 1][0]) if len(found) > size else ""
        by_app: dict[int, list[Process]] = {}
        for process in self.processes:
            by_app.setdefault(process.app, []).append(process)
        return [(name, by_app.get(number, [])) for number, name in found[:size]], following

    async def invocations(
        self, app: str, status: InvocationStatus | None, size: int, token: str
    ) -> tuple[list[InvocationInfo], str]:
        """Return a page of an app's invocations, the newest first, and the next token.

        Raises:
            NotFound: There is no such app.
        """
        size = page_size(size, self._limits)
        after = parse_page_token(token, "invocations", 1)
        apps = schema.apps.c
        number = await self._journal.read(
            lambda c: c.execute(select(apps.id).where(apps.name == app)).scalar()
        )
        if number is None:
            raise NotFound(f"app {app!r} was never seen", app=app)
        columns, sessions = schema.invocations.c, schema.sessions.c
        processes = schema.processes.c
        statement = (
            select(
                columns.id, columns.key, sessions.key, columns.kind, columns.status,
                columns.attempt, columns.create_ms, columns.end_ms, processes.key, columns.reason,
                columns.reference, columns.error_type,
            )
            .join(schema.sessions, sessions.id == columns.session)
            .outerjoin(schema.processes, and_(processes.id == columns.process))
            .where(columns.app == number)
            .order_by(columns.id.desc())
            .limit(size + 1)
        )  # fmt: skip
        if status is not None:
            statement = statement.where(columns.status == int(status))
        if after is not None:
            statement = statement.where(columns.id < after[0])
        rows = await self._journal.read(lambda c: list(c.execute(statement)))
        following = page_token("invocations", rows[size - 1][0]) if len(rows) > size else ""
        return [_info(row) for row in rows[:size]], following


def _info(row: Any) -> InvocationInfo:
    _, key, session, kind, status, attempt, created, ended, process, *rest = row
    return InvocationInfo(
        key, session, InvocationKind(kind), InvocationStatus(status), attempt, created, ended,
        process or "", *rest,
    )  # fmt: skip

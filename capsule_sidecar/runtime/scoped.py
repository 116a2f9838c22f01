"""What values and documents share on the loop: whose they are, and the order of their effects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Connection

from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.web_calls import WebCalls
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.scopes import Caller, Scope
from capsule_sidecar.storage.unit import Unit

T = TypeVar("T")


class Scoped:
    """The way of handlers to what is kept by scope.

    Args:
        journal: Where it is kept.
        live: Keeps the order of an invocation's commands.
        calls: The data and endpoint requests that are being answered.
    """

    def __init__(self, journal: Journal, live: LiveStreams, calls: WebCalls) -> None:
        self.journal = journal
        self._live = live
        self._calls = calls

    def caller(self, app: int, lease: Lease | None, scope: Scope) -> Caller:
        """Return who asks.

        Raises:
            InvalidArgument: No invocation is named, and the scope is not the app's.
        """
        if lease is None and scope is not Scope.APP:
            raise InvalidArgument("invocation_id", "is required for every scope but the app's")
        if lease is None:
            return Caller(app)
        return Caller(app, lease, self._calls.visitor(app, lease))

    def write(self, caller: Caller, operation: Callable[[Unit], T]) -> asyncio.Future[T]:
        """Hand a change to the journal, behind what the invocation has sent before."""
        if caller.lease is None or caller.visitor is not None:
            return self.journal.submit(caller.app, operation)
        flow = self._live.flow(caller.lease.invocation_id)
        flow.submitted += 1
        return self.journal.submit(caller.app, operation, None, flow.settle)

    def read(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        """Read in a snapshot; it runs beside what is being written."""
        return self.journal.read(work)


def check_scope(number: int, field: str) -> Scope:
    """Return a scope by its number on the wire.

    Raises:
        InvalidArgument: It is not given, or none.
    """
    try:
        return Scope(number)
    except ValueError:
        raise InvalidArgument(
            field, "must be the session's, the user's, the owner's or the app's"
        ) from None


def name_of(lease: Lease | None) -> str:
    """Return what a request's digest has of who sent it."""
    return "" if lease is None else lease.invocation_id

"""The way of an invocation's commands to the journal: in their order, which its streams follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.unit import Unit

_T = TypeVar("_T")
_R = TypeVar("_R")


class Flows:
    """Hands over commands, and counts by invocation which of them have taken effect.

    Args:
        journal: Where they take effect.
        live: Shows what was streamed behind a command only once that has.
    """

    def __init__(self, journal: Journal, live: LiveStreams) -> None:
        self._journal = journal
        self._live = live

    def write(
        self,
        app: int,
        lease: Lease,
        operation: Callable[[Unit], _T],
        then: Callable[[_T], None] | None = None,
    ) -> asyncio.Future[_T]:
        """Hand a command to the journal; `then` is called as `Journal.submit` says."""
        flow = self._live.flow(lease.invocation_id)
        flow.submitted += 1
        return self._journal.submit(app, operation, then, flow.settle)


def converted(future: asyncio.Future[_T], convert: Callable[[_T], _R]) -> asyncio.Future[_R]:
    """Return a future of the converted result; a DomainError of the conversion fails it."""
    result: asyncio.Future[_R] = future.get_loop().create_future()

    def settle(done: asyncio.Future[_T]) -> None:
        if result.done():
            return
        if done.cancelled():
            result.cancel()
        elif (error := done.exception()) is not None:
            result.set_exception(error)
        else:
            try:
                result.set_result(convert(done.result()))
            except DomainError as refusal:
                result.set_exception(refusal)

    future.add_done_callback(settle)
    return result

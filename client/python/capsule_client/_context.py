"""Which session the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule_client.session import Session

running: ContextVar[Session | None] = ContextVar("capsule_session", default=None)


def current_session() -> Session | None:
    """Returns the session of the running handler; None outside of one.

    It is the same through any depth of awaited calls and created asyncio tasks.
    """
    return running.get()

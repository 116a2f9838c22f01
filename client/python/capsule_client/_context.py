"""Which session, invocation and task the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule_client._calls import TurnCalls
    from capsule_client.session import Session
    from capsule_client.tasks import Task

running: ContextVar[Session | None] = ContextVar("capsule_session", default=None)
invocation: ContextVar[TurnCalls | None] = ContextVar("capsule_invocation", default=None)
task: ContextVar[Task | None] = ContextVar("capsule_task", default=None)


def enter(calls: TurnCalls, session: Session | None, of: Task | None) -> None:
    """Has the running code belong to an invocation, and to nothing it belonged to before."""
    invocation.set(calls)
    running.set(session)
    task.set(of)


def current_session() -> Session | None:
    """Returns the session of the running handler; None outside of one.

    It is the same through any depth of awaited calls and created asyncio tasks.
    """
    return running.get()

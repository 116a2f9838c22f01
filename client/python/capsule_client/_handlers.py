"""What an app handles, and how its functions are called."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from capsule_client._web import Declared
from capsule_client.session import Session
from capsule_client.tasks import TaskFunction
from capsule_client.types import Action, Message

MessageHandler = Callable[[Session, Message], Awaitable[None]]
ActionHandler = Callable[[Session, Action], Awaitable[None]]
SessionHandler = Callable[[Session], Awaitable[None]]
LifeHandler = Callable[[], Awaitable[None]]


class Scheduled(NamedTuple):
    """A schedule's handler, and when it is asked."""

    function: SessionHandler
    cron: str
    timezone: str


@dataclass(slots=True)
class Handlers:
    """The functions of an app by what they handle."""

    message: MessageHandler | None = None
    enter: SessionHandler | None = None
    exit: SessionHandler | None = None
    actions: dict[str, ActionHandler] = field(default_factory=dict)
    data: dict[str, Declared] = field(default_factory=dict)
    endpoints: dict[str, Declared] = field(default_factory=dict)  # by `METHOD /path`
    tasks: dict[str, TaskFunction[Any, Any]] = field(default_factory=dict)
    schedules: dict[str, Scheduled] = field(default_factory=dict)
    collections: dict[str, tuple[str, list[str]]] = field(default_factory=dict)  # scope, indexes
    boot: list[LifeHandler] = field(default_factory=list)
    shutdown: list[LifeHandler] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing is declared that handles work; `boot` and `shutdown` handle none."""
        conversing = self.message or self.enter or self.exit or self.actions
        asked = self.data or self.endpoints or self.tasks or self.schedules
        return not (conversing or asked)


def check_handler(function: Any, what: str, *parameters: str) -> None:
    """Sees to it that `function` can be a handler.

    Raises TypeError for one that is not `async` or does not take the parameters.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function) or not (
        inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object
    ):
        raise TypeError(f"{what} handlers are async functions: write `async def {name}(...)`")
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError as error:
        taken = ", ".join(parameters) or "no parameters"
        raise TypeError(f"{what} handler {name} takes ({taken}): {error}") from None

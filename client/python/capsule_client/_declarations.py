"""What an app declares: its handlers and collections, by decorators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from capsule_client import _task_rules, _web
from capsule_client._decorators import written
from capsule_client._handlers import (
    ActionHandler,
    Handlers,
    LifeHandler,
    MessageHandler,
    Scheduled,
    SessionHandler,
    check_handler,
)
from capsule_client.collections import Collection, Scope, check_declaration
from capsule_client.tasks import TaskFunction

if TYPE_CHECKING:
    from capsule_client._state import State
    from capsule_client._tasks import TaskCalls

_MAX_ACTION = 128

M = TypeVar("M", bound=MessageHandler)
W = TypeVar("W", bound=_web.WebHandler)
A = TypeVar("A", bound=ActionHandler)
S = TypeVar("S", bound=SessionHandler)
L = TypeVar("L", bound=LifeHandler)
P = ParamSpec("P")
R = TypeVar("R")


class Declarations:
    """The decorators of an `App`; what they declare goes out with the next attach.

    Each takes parentheses, also where it takes no arguments: `@app.message()`. One that is written
    otherwise is a TypeError that shows how.
    """

    def __init__(self) -> None:
        self._handlers = Handlers()

    def _own_state(self) -> State:
        """Returns what reaches the app's own documents; Unavailable while it is not attached."""
        raise NotImplementedError

    def _own_tasks(self) -> TaskCalls:
        """Returns what asks for tasks, of the running handler or else of the app itself."""
        raise NotImplementedError

    @written("@app.message()")
    def message(self) -> Callable[[M], M]:
        """Declares the handler of user messages: `async def handle(session, msg)`."""

        def declare(function: M) -> M:
            check_handler(function, "message", "session", "msg")
            _once(self._handlers.message, "message handler")
            self._handlers.message = function
            return function

        return declare

    @written("@app.enter()")
    def enter(self) -> Callable[[S], S]:
        """Declares the handler of a session's opening: `async def greet(session)`."""

        def declare(function: S) -> S:
            check_handler(function, "enter", "session")
            _once(self._handlers.enter, "enter handler")
            self._handlers.enter = function
            return function

        return declare

    @written("@app.exit()")
    def exit(self) -> Callable[[S], S]:
        """Declares the handler of a session's end: `async def part(session)`."""

        def declare(function: S) -> S:
            check_handler(function, "exit", "session")
            _once(self._handlers.exit, "exit handler")
            self._handlers.exit = function
            return function

        return declare

    @written('@app.action("name")', "name")
    def action(self, name: str) -> Callable[[A], A]:
        """Declares the handler of clicks named `name`: `async def click(session, action)`."""
        if not 1 <= len(name) <= _MAX_ACTION:
            raise ValueError(f"an action's name is 1 to {_MAX_ACTION} characters")

        def declare(function: A) -> A:
            check_handler(function, "action", "session", "action")
            _once(self._handlers.actions.get(name), f"handler of action {name!r}")
            self._handlers.actions[name] = function
            return function

        return declare

    @written('@app.data("name")', "name")
    def data(
        self, name: str, *, access: Literal["anyone", "authenticated"] = "anyone"
    ) -> Callable[[W], W]:
        """Declares what answers `GET .../data/{name}`: `async def stats(ctx, days: int = 7)`.

        The query's parameters become keyword arguments, converted by their annotations; one that
        does not fit is answered by 400, which names it. What is returned is sent as JSON.

        Args:
            name: 1 to 128 of `[A-Za-z0-9_.-]`.
            access: `"authenticated"`: the sidecar lets through who is signed in, guests too.

        Raises:
            ValueError: for a malformed name or access, and for a name that is declared already.
        """
        _web.check_data_name(name)
        if access not in ("anyone", "authenticated"):
            raise ValueError(f'access is "anyone" or "authenticated", not {access!r}')

        def declare(function: W) -> W:
            _once(self._handlers.data.get(name), f"data handler {name!r}")
            self._handlers.data[name] = _web.declare(
                function, "data", authenticated=access == "authenticated", raw=False
            )
            return function

        return declare

    @written('@app.endpoint("GET", "/path")', "method", "path")
    def endpoint(self, method: str, path: str, *, authorized: bool = False) -> Callable[[W], W]:
        """Declares what answers a method and path under `/apps/{app}/api`.

        What `{name}`s of the path take become keyword arguments, converted by their annotations.
        What is returned is sent as JSON, or as the `Response` says.

        Args:
            method: `GET`, `POST`, ...
            path: `/`, or segments as `/orders/{order_id}`.
            authorized: The sidecar lets through who is signed in, guests too.

        Raises:
            ValueError: for a malformed method or path, and for what is declared already, also with
                other names in its path.
        """
        route, names = _web.check_route(method.upper(), path)

        def declare(function: W) -> W:
            # Paths that differ in their names alone take the same requests.
            same = (r for r in self._handlers.endpoints if _web.shape(r) == _web.shape(route))
            known = next(same, None)
            _once(known, f"handler of {known}")
            self._handlers.endpoints[route] = _web.declare(
                function, "endpoint", authenticated=authorized, raw=True, taken=names
            )
            return function

        return declare

    @written("@app.task()")
    def task(
        self,
        *,
        retries: int = 0,
        timeout: str | float | timedelta | None = None,
        lock: str | None = None,
        retry_for: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        redeliver: bool = True,
        name: str | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], TaskFunction[P, R]]:
        """Declares a task: `async def sync(session, owner_id: str) -> dict`.

        What is returned is called like the function, which runs it here and now; its `submit` has
        a process of the app run it beside the conversation. What the function returns is kept as
        the task's result: JSON of at most 1 MiB (another ends the task failed, without retries).

        Args:
            retries: How many failed tries (exceptions and timeouts) are tried again: 0 to 1,000,
                after 1 s, 2 s, 4 s and so on up to 5 minutes, each somewhat shortened at random.
            timeout: How long one try may take: seconds, a timedelta or a string as `"10m"`; at most
                30 days. Then the handler is cancelled. None: without bound.
            lock: A template over the arguments, as `"sync:{owner_id}"`. While a task with the same
                lock has not ended, a submission joins it.
            retry_for: The exceptions that are tried again, subclasses included: a class or a tuple.
                Others fail at once. None: all are.
            redeliver: False: where the process that runs it is lost, it fails rather than being
                delivered again.
            name: 1 to 128 characters. None: the function's name. Processes that submit and run it
                agree on it.

        Raises:
            TypeError: for a function that is not async or does not take the session first, and for
                a value of another type.
            ValueError: for a figure out of its bounds, a lock that is no template of the arguments,
                an argument that `submit` takes itself, and a name that is declared already.
        """

        def declare(function: Callable[P, Awaitable[R]]) -> TaskFunction[P, R]:
            task = TaskFunction(
                function,
                self._own_tasks,
                name=name,
                retries=retries,
                timeout=timeout,
                lock=lock,
                retry_for=retry_for,
                redeliver=redeliver,
            )
            _once(self._handlers.tasks.get(task.name), f"task {task.name!r}")
            self._handlers.tasks[task.name] = task
            return task

        return declare

    @written('@app.schedule("0 8 * * *")', "cron", "timezone")
    def schedule(
        self, cron: str, timezone: str = "UTC", name: str | None = None
    ) -> Callable[[S], S]:
        """Declares what runs at certain times: `async def nightly(session)`.

        Each tick is one invocation, whichever and however many processes are attached, unless an
        earlier one of the schedule is still queued; of ticks that were missed while the sidecar was
        down only the latest runs. The session is none: see `Session`.

        Args:
            cron: Minute, hour, day of the month, month and day of the week: `"0 * * * *"`. The
                sidecar refuses the attach for a malformed one, and for one that never comes.
            timezone: A name of the time zone database, as `Europe/Berlin`.
            name: 1 to 128 characters. None: the function's name.

        Raises:
            TypeError: for a function that is not async or does not take the session alone.
            ValueError: for an empty cron or timezone, and a name that is declared already.
        """
        for what, value in (("cron", cron), ("timezone", timezone)):
            if not value.strip():
                raise ValueError(f"{what} is empty")

        def declare(function: S) -> S:
            check_handler(function, "schedule", "session")
            known = _task_rules.name_of(function, name, "schedule")
            _once(self._handlers.schedules.get(known), f"schedule {known!r}")
            self._handlers.schedules[known] = Scheduled(function, cron, timezone)
            return function

        return declare

    def collection(
        self, name: str, scope: Scope = "app", indexes: Iterable[str] = ()
    ) -> Collection:
        """Declares a collection of documents: `session.db.<name>` reaches it in every scope.

        What is returned reaches it outside of a session and a request: in scope `app`, while the
        app is attached (NoSession in another scope, Unavailable while it is not).

        Args:
            name: 1 to 64 of `[a-zA-Z0-9_-]`, beginning with a letter.
            scope: Whose documents: the `app`'s, each `owner`'s, `user`'s or `session`'s.
            indexes: Dotted paths that are looked for often, at most 10.

        Raises:
            ValueError: for a malformed name, another scope, an empty path or too many, and for a
                name that is declared already.
        """
        declared = check_declaration(name, scope, indexes)
        _once(self._handlers.collections.get(name), f"collection {name!r}")
        self._handlers.collections[name] = declared
        return Collection(name, scope, self._own_state)

    @written("@app.boot()")
    def boot(self) -> Callable[[L], L]:
        """Declares an async function to run after the first attach and before any work."""

        def declare(function: L) -> L:
            check_handler(function, "boot")
            self._handlers.boot.append(function)
            return function

        return declare

    @written("@app.shutdown()")
    def shutdown(self) -> Callable[[L], L]:
        """Declares an async function to run on the way out, when no handler runs any more."""

        def declare(function: L) -> L:
            check_handler(function, "shutdown")
            self._handlers.shutdown.append(function)
            return function

        return declare


def _once(present: object, what: str) -> None:
    if present is not None:
        raise ValueError(f"the app has a {what} already")

"""`App`: what a handler process declares, and how it serves."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from capsule_client import _web
from capsule_client._handlers import (
    ActionHandler,
    Handlers,
    LifeHandler,
    MessageHandler,
    SessionHandler,
    check_handler,
)
from capsule_client._process import Signals, configure
from capsule_client.collections import Collection, Scope, check_declaration
from capsule_client.errors import CapsuleError, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from capsule_client._attachment import Attachment
    from capsule_client._state import State

_log = logging.getLogger("capsule")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_CONCURRENCY = 1000
_MAX_ACTION = 128

M = TypeVar("M", bound=MessageHandler)
W = TypeVar("W", bound=_web.WebHandler)
A = TypeVar("A", bound=ActionHandler)
S = TypeVar("S", bound=SessionHandler)
L = TypeVar("L", bound=LifeHandler)


class App:
    """An app's handlers, and the process that serves them.

    Args:
        name: The app's name: `[a-z0-9][a-z0-9_-]{0,62}`.
        concurrency: How many handlers run at once, 1 to 1,000.
        stream_interval: Seconds between two deltas of a reply stream; 0 sends each at once.
        drain_timeout: Seconds that handlers get to finish when the app is asked to stop.
        address: `host:port`, `unix:path` or `https://host[:port]`. None: CAPSULE_ADDRESS, else
            127.0.0.1:7400.
        token: None: CAPSULE_TOKEN, else the file `token` of CAPSULE_HOME or `./.capsule`.

    Raises:
        ValueError: for a name or figure out of its bounds.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int = 64,
        stream_interval: float = 0.025,
        drain_timeout: float = 30.0,
        address: str | None = None,
        token: str | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"app name {name!r} is not of the form {_NAME.pattern}")
        if not 1 <= concurrency <= _MAX_CONCURRENCY:
            raise ValueError(f"concurrency is 1 to {_MAX_CONCURRENCY}, not {concurrency}")
        if not 0 <= stream_interval <= 1:
            raise ValueError(f"stream_interval is 0 to 1 seconds, not {stream_interval}")
        if drain_timeout < 0:
            raise ValueError(f"drain_timeout is seconds from 0, not {drain_timeout}")
        self._name = name
        self._concurrency = concurrency
        self._stream_interval = stream_interval
        self._drain_timeout = drain_timeout
        self._address = address
        self._token = token
        self._handlers = Handlers()
        self._attached = False
        self._state: State | None = None  # while it is attached

    @property
    def name(self) -> str:
        """The app's name."""
        return self._name

    def message(self) -> Callable[[M], M]:
        """Declares the handler of user messages: `async def handle(session, msg)`."""

        def declare(function: M) -> M:
            check_handler(function, "message", "session", "msg")
            _once(self._handlers.message, "message handler")
            self._handlers.message = function
            return function

        return declare

    def enter(self) -> Callable[[S], S]:
        """Declares the handler of a session's opening: `async def greet(session)`."""

        def declare(function: S) -> S:
            check_handler(function, "enter", "session")
            _once(self._handlers.enter, "enter handler")
            self._handlers.enter = function
            return function

        return declare

    def exit(self) -> Callable[[S], S]:
        """Declares the handler of a session's end: `async def part(session)`."""

        def declare(function: S) -> S:
            check_handler(function, "exit", "session")
            _once(self._handlers.exit, "exit handler")
            self._handlers.exit = function
            return function

        return declare

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

    def endpoint(self, method: str, path: str, *, authorized: bool = False) -> Callable[[W], W]:
        """Declares what answers a method and path under `/apps/{app}/api`.

        What `{name}`s of the path take become keyword arguments, converted by their annotations.
        What is returned is sent as JSON, or as the `Response` says.

        Args:
            method: `GET`, `POST`, ...
            path: `/`, or segments as `/orders/{order_id}`.
            authorized: The sidecar lets through who is signed in, guests too.

        Raises:
            ValueError: for a malformed method or path, and for what is declared already.
        """
        route, names = _web.check_route(method.upper(), path)

        def declare(function: W) -> W:
            _once(self._handlers.endpoints.get(route), f"handler of {route}")
            self._handlers.endpoints[route] = _web.declare(
                function, "endpoint", authenticated=authorized, raw=True, taken=names
            )
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

    def boot(self) -> Callable[[L], L]:
        """Declares an async function to run after the first attach and before any work."""

        def declare(function: L) -> L:
            check_handler(function, "boot")
            self._handlers.boot.append(function)
            return function

        return declare

    def shutdown(self) -> Callable[[L], L]:
        """Declares an async function to run on the way out, when no handler runs any more."""

        def declare(function: L) -> L:
            check_handler(function, "shutdown")
            self._handlers.shutdown.append(function)
            return function

        return declare

    def run(self) -> None:
        """Attaches to the sidecar and serves until SIGTERM or SIGINT; returns once drained.

        Then it takes no new work, gives handlers `drain_timeout` seconds to finish, gives back what
        is not finished, and detaches. A second signal does not wait for handlers. Where no logging
        is configured, INFO and above go to standard error.

        Raises SystemExit with a sentence, so that the process ends with exit code 1, for a token
        that is not known and for versions that do not fit; the CapsuleError, as `serve` raises it,
        is its cause. Raises what a boot handler raises.
        """
        configure()
        self.serve_process()

    async def serve(self) -> None:
        """Does what `run` does within a running loop, until it is cancelled; sees no signals."""
        async with self._attachment() as attachment:
            await attachment.until_stopped()

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[None]:
        """Attaches for the time of an `async with` block; leaving it drains and detaches."""
        async with self._attachment():
            yield

    def serve_process(
        self, ready: Callable[[], None] | None = None, *, life_fd: int | None = None
    ) -> None:
        """Serves as the one purpose of this process: what `run` and the command line call.

        Args:
            ready: Called once, when the app is attached and booted.
            life_fd: A file descriptor whose end asks to stop, as a signal does: the reading side of
                a pipe that a parent process holds.

        Raises SystemExit with a sentence where the sidecar does not let this app in.
        """
        try:
            asyncio.run(self._serve_until_signal(ready, life_fd))
        except CapsuleError as error:
            # Nobody above has a use for the calls that led to it: no traceback, its words.
            raise SystemExit(self._refusal(error)) from error

    def _refusal(self, error: CapsuleError) -> str:
        if not isinstance(error, PermissionDenied):
            return f"{self._name} cannot attach: {error}"
        from capsule_client._settings import address_of

        source = "the argument `token`" if self._token else "CAPSULE_TOKEN"
        return (
            f"The sidecar at {address_of(self._address).target} refuses the token of"
            f" {self._name!r} (from {source}): {error}. Without one, the token is the file `token`"
            " in CAPSULE_HOME, which names the home of the sidecar; CAPSULE_TOKEN goes before it."
        )

    async def _serve_until_signal(
        self, ready: Callable[[], None] | None, life_fd: int | None
    ) -> None:
        async with Signals(life_fd) as signals, self._attachment(signals) as attachment:
            if ready is not None and attachment.booted:
                ready()
            await attachment.until_stopped()

    @asynccontextmanager
    async def _attachment(self, signals: Signals | None = None) -> AsyncIterator[Attachment]:
        # gRPC and the stubs are loaded here: importing an app, as tests and tools do, is quick.
        from capsule_client._attachment import Attachment
        from capsule_client._settings import TokenSource, address_of

        if self._attached:
            raise RuntimeError(f"app {self._name!r} is attached already")
        if self._handlers.empty:
            _log.warning(
                "app %r has no handlers, so nobody is answered: declare one, as @app.message()",
                self._name,
            )
        attachment = Attachment(
            self._name,
            self._handlers,
            address=address_of(self._address),
            token=TokenSource(self._token),
            concurrency=self._concurrency,
            stream_interval=self._stream_interval,
            drain_timeout=self._drain_timeout,
        )
        if signals is not None:
            signals.on_signal = attachment.request_stop
        self._attached = True
        self._state = attachment.state
        try:
            async with attachment:
                yield attachment
        finally:
            self._attached = False
            self._state = None

    def _own_state(self) -> State:
        if self._state is None:
            raise Unavailable(f"app {self._name!r} is not attached: its documents are out of reach")
        return self._state


def _once(present: object, what: str) -> None:
    if present is not None:
        raise ValueError(f"the app has a {what} already")

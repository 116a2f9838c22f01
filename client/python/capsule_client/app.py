"""`App`: what a handler process declares, and how it serves."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from capsule_client import _context
from capsule_client._declarations import Declarations
from capsule_client._durations import duration_of
from capsule_client._process import Signals, configure
from capsule_client.errors import DETACHED, CapsuleError, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from capsule_client._attachment import Attachment
    from capsule_client._state import State
    from capsule_client._tasks import TaskCalls

_log = logging.getLogger("capsule")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_CONCURRENCY = 1000


class App(Declarations):
    """An app's handlers, and the process that serves them.

    Args:
        name: The app's name: `[a-z0-9][a-z0-9_-]{0,62}`.
        concurrency: How many handlers run at once, 1 to 1,000.
        stream_interval: Seconds between two deltas of a reply stream; 0 sends each at once.
        drain_timeout: How long handlers get to finish when the app is asked to stop: seconds, a
            timedelta or a string as `"1m"`.
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
        drain_timeout: str | float | timedelta = 30.0,
        address: str | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__()
        if not _NAME.fullmatch(name):
            raise ValueError(f"app name {name!r} is not of the form {_NAME.pattern}")
        if not 1 <= concurrency <= _MAX_CONCURRENCY:
            raise ValueError(f"concurrency is 1 to {_MAX_CONCURRENCY}, not {concurrency}")
        if not 0 <= stream_interval <= 1:
            raise ValueError(f"stream_interval is 0 to 1 seconds, not {stream_interval}")
        self._name = name
        self._concurrency = concurrency
        self._stream_interval = stream_interval
        self._drain_timeout = _drain_seconds(drain_timeout)
        self._address = address
        self._token = token
        self._attached = False
        self._state: State | None = None  # while it is attached
        self._tasks: TaskCalls | None = None  # while it is attached

    @property
    def name(self) -> str:
        """The app's name."""
        return self._name

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
    async def attached(
        self,
        *,
        address: str | None = None,
        token: str | None = None,
        drain_timeout: str | float | timedelta | None = None,
    ) -> AsyncIterator[None]:
        """Attaches for the time of an `async with` block; leaving it drains and detaches.

        Args:
            address: In place of the app's own, as for a test.
            token: In place of the app's own.
            drain_timeout: In place of the app's own.
        """
        async with self._attachment(address=address, token=token, drain_timeout=drain_timeout):
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
    async def _attachment(
        self,
        signals: Signals | None = None,
        *,
        address: str | None = None,
        token: str | None = None,
        drain_timeout: str | float | timedelta | None = None,
    ) -> AsyncIterator[Attachment]:
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
            address=address_of(address or self._address),
            token=TokenSource(token or self._token),
            concurrency=self._concurrency,
            stream_interval=self._stream_interval,
            drain_timeout=(
                self._drain_timeout if drain_timeout is None else _drain_seconds(drain_timeout)
            ),
        )
        if signals is not None:
            signals.on_signal = attachment.request_stop
        self._attached = True
        self._state = attachment.state
        self._tasks = attachment.tasks
        try:
            async with attachment:
                yield attachment
        finally:
            self._attached = False
            self._state = None
            self._tasks = None

    def _own_state(self) -> State:
        if self._state is None:
            raise Unavailable(
                f"app {self._name!r} is not attached: its documents are out of reach",
                reason=DETACHED,
            )
        return self._state

    def _own_tasks(self) -> TaskCalls:
        own = self._tasks
        if own is None:
            raise Unavailable(
                f"app {self._name!r} is not attached: its tasks are out of reach", reason=DETACHED
            )
        running = _context.invocation.get()
        if running is not None and running.tasks.beside(own) and not running.returned:
            return running.tasks
        return own  # outside of any handler, behind one, or in one of another app in this process


def _drain_seconds(given: str | float | timedelta) -> float:
    seconds = duration_of(given, "drain_timeout").total_seconds()
    if seconds < 0:
        raise ValueError(f"drain_timeout is not negative: {given!r}")
    return seconds

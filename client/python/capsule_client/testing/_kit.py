"""The kit: a sidecar, the app attached to it, its users, and a clock that can be put forward."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from capsule_client.app import App
from capsule_client.testing import _waiting
from capsule_client.testing._link import Link
from capsule_client.testing._sidecar import Serving, Sidecar
from capsule_client.testing._user import Keeper, User

START_SECONDS = 60.0
# Handlers that run still when the test is over: nobody waits for them any more.
_DRAIN_SECONDS = 0.25
# For a turn that has replied to come to its end before the clock passes its deadline.
_SETTLE_SECONDS = 0.5
_ERRORS = 5


class Kit(Keeper):
    """What a test holds: made by `run`.

    Attributes:
        http: `http://HOST:PORT` of the sidecar's HTTP side: the chat page, data and endpoints.
        address: `HOST:PORT` of its gRPC side.
    """

    def __init__(self, link: Link, serving: Serving, timeout: float, errors: _Errors) -> None:
        self.http = serving.http
        self.address = serving.address
        self._link = link
        self._timeout = timeout
        self._errors = errors
        self._users: dict[str, User] = {}
        self._sessions: list[User] = []

    def user(self, name: str) -> User:
        """Returns a person: the same one, in the same session, for the same name."""
        if name not in self._users:
            self._users[name] = self.session(name)
        return self._users[name]

    def session(self, name: str) -> User:
        """Returns a person in a session of its own."""
        user = User(self._link, name, self._timeout, self)
        self._sessions.append(user)
        return user

    async def advance(
        self,
        by: timedelta | None = None,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> datetime:
        """Puts the sidecar's clock forward; what is due by then has begun when this returns.

        That is: prompts that expire, turns and tasks beyond their deadlines, tasks that were
        scheduled or wait to be tried again, schedules (each ticks once, however many ticks lie in
        that time), leases of handlers that are gone, sign-ins and addresses of files. Python's own
        clock stays as it is.

        Args:
            by: How far, besides what the others add.
            seconds: And so many seconds.
            minutes: And so many minutes.
            hours: And so many hours.
            days: And so many days. All together 1 ms to 10 years.

        Returns:
            The time that it is for the sidecar now.

        Raises:
            InvalidArgument: for a time that is none, or too long.
        """
        for user in self._sessions:  # who has its reply has not its turn's end yet
            await user.settle(_SETTLE_SECONDS)
        more = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        return await self._link.advance((by or timedelta()) + more)

    async def eventually(
        self, predicate: Callable[[], Any], *, timeout: float | None = None, message: str = ""
    ) -> Any:
        """Asks again and again until what `predicate` returns is true; see `testing.eventually`."""
        given = self._timeout if timeout is None else timeout
        return await _waiting.eventually(predicate, timeout=given, message=message)

    def aside(self) -> str:
        """Returns what the handlers have logged, for whoever reads a failure."""
        return self._errors.told()

    async def leave(self) -> None:
        """Ends what follows the sessions."""
        for user in self._sessions:
            await user.leave()


class _Errors(logging.Handler):
    """Keeps the last errors that handlers ended with: the app runs in the test's own process."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._kept: deque[str] = deque(maxlen=_ERRORS)
        self._lines = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record."""
        self._kept.append(self._lines.format(record))

    def told(self) -> str:
        """Returns what was kept."""
        return "".join(f"\nThe app has logged: {error}" for error in self._kept)


@asynccontextmanager
async def run(
    app: App,
    *,
    timeout: float = 10.0,
    config: str | Path = "",
    sidecar: Sidecar | None = None,
) -> AsyncIterator[Kit]:
    """Runs a sidecar of its own with the app attached in this event loop, until left.

    Args:
        app: The app; it is attached nowhere else meanwhile.
        timeout: Seconds that each wait has where none are given.
        config: A `capsule.toml` for the sidecar: its text, or where it is.
        sidecar: One that is on its way already; whoever made it ends it.

    Raises:
        RuntimeError: capsule-sidecar is not installed or does not start, or the app is attached.
    """
    async with AsyncExitStack() as stack:
        if sidecar is None:
            sidecar = Sidecar(config)
            stack.push_async_callback(asyncio.to_thread, sidecar.end)
        serving = await sidecar.ready(START_SECONDS)
        errors = _Errors()
        logger = logging.getLogger("capsule")
        logger.addHandler(errors)
        stack.callback(logger.removeHandler, errors)
        async with asyncio.timeout(START_SECONDS) as starting:
            await stack.enter_async_context(
                app.attached(
                    address=serving.address, token=serving.token, drain_timeout=_DRAIN_SECONDS
                )
            )
            starting.reschedule(None)
        link = await stack.enter_async_context(Link(serving, app.name, sidecar.words))
        kit = Kit(link, serving, timeout, errors)
        stack.push_async_callback(kit.leave)
        yield kit

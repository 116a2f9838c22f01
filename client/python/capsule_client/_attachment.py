"""One attachment of an app to the sidecar: its parts, put together, started and drained."""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import PackageNotFoundError, version

from capsule_client._handlers import Handlers
from capsule_client._leases import Leases
from capsule_client._line import Line
from capsule_client._outbox import Outbox
from capsule_client._settings import Address, TokenSource
from capsule_client._state import declarations
from capsule_client._turns import Turns
from capsule_client._watchdog import Watchdog
from capsule_protocol.v1 import handler_service_pb2 as pb

_log = logging.getLogger("capsule")

PROTOCOL_VERSION = "1"
CLIENT_NAME = "capsule-client-python"
_LEAVE_TIMEOUT = 5.0  # seconds for cancelled handlers to end, and for the last acknowledgements
_SHUTDOWN_TIMEOUT = 30.0  # seconds for all shutdown handlers together


class Attachment:
    """`async with` attaches and boots; leaving drains and detaches.

    Entering returns with the first attach, however long the sidecar takes to appear, or when
    `request_stop` is called.
    """

    def __init__(
        self,
        app: str,
        handlers: Handlers,
        *,
        address: Address,
        token: TokenSource,
        concurrency: int,
        stream_interval: float,
        drain_timeout: float,
    ) -> None:
        leases = Leases()
        outbox = Outbox(lambda: self._line.kick(), stream_interval)
        hello = pb.Hello(
            app=app,
            protocol_version=PROTOCOL_VERSION,
            client_name=CLIENT_NAME,
            client_version=_version(),
            process_id=outbox.new_id(),
            declarations=pb.Declarations(
                message=handlers.message is not None,
                enter=handlers.enter is not None,
                exit=handlers.exit is not None,
                actions=handlers.actions,
                collections=declarations(handlers.collections),
                data=[
                    pb.DataDeclaration(name=name, authenticated=declared.authenticated)
                    for name, declared in handlers.data.items()
                ],
                endpoints=[
                    pb.EndpointDeclaration(
                        method=route.partition(" ")[0],
                        path=route.partition(" ")[2],
                        authenticated=declared.authenticated,
                    )
                    for route, declared in handlers.endpoints.items()
                ],
                tasks=handlers.tasks,
                schedules=[
                    pb.ScheduleDeclaration(name=name, cron=each.cron, timezone=each.timezone)
                    for name, each in handlers.schedules.items()
                ],
            ),
            concurrency=concurrency,
        )
        self._handlers = handlers
        self._drain_timeout = drain_timeout
        self._outbox = outbox
        self._turns = Turns(hello, handlers, outbox, leases, lambda: self._line)
        self.state = self._turns.app_state
        self.tasks = self._turns.app_tasks
        self._line = Line(app, address, token, outbox, leases, self._turns)
        self._watchdog = Watchdog(leases, address, hello.process_id, lambda: self._line.metadata)
        self._line_task: asyncio.Task[None] | None = None
        self.booted = False  # attached, and every boot handler has run
        self._stop = asyncio.Event()
        self._hurry = False
        # Around a boot or shutdown handler that runs: these run in the task of whoever attaches, so
        # that what one opens another can close, also where that must be done in the same task.
        self._within: asyncio.Timeout | None = None

    def request_stop(self) -> None:
        """Asks to drain and leave; asked again, not to wait for what runs."""
        self._hurry = self._stop.is_set()
        self._stop.set()
        within = self._within
        if within is not None and not within.expired() and (self._hurry or not self.booted):
            within.reschedule(asyncio.get_running_loop().time())
        self._turns.changed()

    async def until_stopped(self) -> None:
        """Returns when `request_stop` was called; raises why the line was given up for good."""
        await self._until(self._stop)

    async def __aenter__(self) -> Attachment:
        await self._watchdog.__aenter__()
        self._line_task = asyncio.create_task(self._line.run(), name="capsule-line")
        try:
            await self._until(self._line.attached, self._stop)
            if self._line.attached.is_set():
                await self._boot()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._finish_turns()
            if self.booted:
                await self._shut_down()
        finally:
            await self._leave()

    async def _boot(self) -> None:
        """Runs the boot handlers, until `request_stop`; then work may begin."""
        within = asyncio.timeout(None)
        try:
            async with within:
                self._within = within
                for boot in self._handlers.boot:
                    await boot()
                self.booted = True
        except TimeoutError:
            if not within.expired():
                raise  # the handler's own
            _log.warning("asked to end while a boot handler ran: it was cancelled")
            return
        finally:
            self._within = None
        self._turns.begin()

    async def _shut_down(self) -> None:
        """Runs every shutdown handler; what one raises does not keep the others from it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (_LEAVE_TIMEOUT if self._hurry else _SHUTDOWN_TIMEOUT)
        for shutdown in self._handlers.shutdown:
            within = asyncio.timeout_at(end)
            try:
                async with within:
                    self._within = within
                    await shutdown()
            except Exception:  # noqa: BLE001 - the author's code; what follows still runs
                if within.expired():
                    end = loop.time()
                    _log.warning("a shutdown handler had not returned in time: it was cancelled")
                else:
                    _log.exception("a shutdown handler failed")
            finally:
                self._within = None

    async def _finish_turns(self) -> None:
        turns = self._turns
        self._line.drain()
        turns.drain()
        await turns.until(lambda: turns.idle or self._hurry, self._drain_timeout)
        if not turns.idle:
            _log.warning("giving back %d turns that are not finished", turns.give_back())
            if not await turns.until(lambda: turns.idle, _LEAVE_TIMEOUT):
                turns.abandon()

    async def _leave(self) -> None:
        assert self._line_task is not None
        try:
            await self._deliver(self._line_task)
            await self._line.close()
        finally:
            self._line_task.cancel()
            self._outbox.close()
            self._turns.close()
            await asyncio.gather(self._line_task, return_exceptions=True)
            await self._watchdog.__aexit__()

    async def _deliver(self, line_task: asyncio.Task[None]) -> None:
        """Waits until the sidecar has all that we owe it."""
        turns, line = self._turns, self._line
        line.drain()
        turns.drain()
        if line.connected:
            # Work that was on its way when we asked for no more is given back, not left to expire.
            await turns.until(
                lambda: (line.drained and turns.delivered) or line_task.done(), _LEAVE_TIMEOUT
            )
        if not turns.delivered:
            _log.warning("detaching with outcomes that are not acknowledged; turns run again")

    async def _until(self, *events: asyncio.Event) -> None:
        assert self._line_task is not None
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait({*waits, self._line_task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._line_task.done():
            self._line_task.result()


def _version() -> str:
    try:
        return version("capsule-client")
    except PackageNotFoundError:  # run from a directory that was never installed
        return "0"

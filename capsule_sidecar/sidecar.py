"""The composition root: builds every part, starts them in order, and drains them."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import structlog
import uvloop

from capsule_sidecar import __version__
from capsule_sidecar.address import Address, is_taken
from capsule_sidecar.config import Settings
from capsule_sidecar.home import Home, open_home
from capsule_sidecar.identity.sign_ins import SignIns
from capsule_sidecar.identity.tokens import Tokens
from capsule_sidecar.life import watched
from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.model.types import Terms
from capsule_sidecar.rpc.admin_service import AdminService
from capsule_sidecar.rpc.channel_service import ChannelService
from capsule_sidecar.rpc.file_service import FileService
from capsule_sidecar.rpc.handler_services import HandlerService, SessionService
from capsule_sidecar.rpc.server import Server
from capsule_sidecar.rpc.state_services import CollectionService, StateService
from capsule_sidecar.rpc.task_service import TaskService
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.runtime.advancing import ClockHand
from capsule_sidecar.runtime.apps import Apps
from capsule_sidecar.runtime.collections import Collections
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.runtime.conversations import Conversations
from capsule_sidecar.runtime.dispatcher import Dispatcher
from capsule_sidecar.runtime.ends import Ends
from capsule_sidecar.runtime.files import Files
from capsule_sidecar.runtime.followers import Followers
from capsule_sidecar.runtime.hub import Hub
from capsule_sidecar.runtime.live import LiveStreams
from capsule_sidecar.runtime.operations import Operations
from capsule_sidecar.runtime.prompting import OpenPrompts, Prompting
from capsule_sidecar.runtime.rates import Rate
from capsule_sidecar.runtime.scoped import Scoped
from capsule_sidecar.runtime.state import State
from capsule_sidecar.runtime.stream_commands import StreamCommands
from capsule_sidecar.runtime.sweep import Sweep
from capsule_sidecar.runtime.tasks import Tasks
from capsule_sidecar.storage.clock import Clock
from capsule_sidecar.storage.database import open_database
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.migrate import migrate
from capsule_sidecar.storage.objects import open_objects
from capsule_sidecar.storage.slots import Slots
from capsule_sidecar.web.app import build
from capsule_sidecar.web.app_api import AppApi
from capsule_sidecar.web.chat_api import ChatApi
from capsule_sidecar.web.file_api import FileApi
from capsule_sidecar.web.metrics import Metrics
from capsule_sidecar.web.pages import Pages
from capsule_sidecar.web.requests import Visitors
from capsule_sidecar.web.server import HttpServer
from capsule_sidecar.web.status import State as Readiness
from capsule_sidecar.web.status import StatusApi

logger = structlog.get_logger("capsule")

# How long calls that are not asked to end have, when everything else is over.
_STOP_SECONDS = 2.0


class Sidecar:
    """A running sidecar. `async with` starts it; leaving drains it.

    Args:
        settings: How it runs.
        home: Where it keeps what it owns.
    """

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._stack = AsyncExitStack()
        self._hurried = False
        self._stopping = False

    async def __aenter__(self) -> Sidecar:
        settings = self._settings
        timing, limits = settings.timing, settings.limits
        storage = settings.storage.url
        database = open_database(
            storage.get_secret_value() if storage else None, self._home.database
        )
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(migrate, database)
            slots = Slots(timing.fresh_beat)
            self.journal = await stack.enter_async_context(
                Journal(database, slots, _terms(settings))
            )
            addresses = _addresses(settings, self._home, self.journal.clock)
            self.hub = Hub(addresses)
            self.files = await stack.enter_async_context(
                Files(
                    self.journal, open_objects(settings.files, self._home.files), addresses,
                    limits, timing,
                )
            )  # fmt: skip
            live = LiveStreams(
                self.journal,
                self.hub,
                max_text=limits.max_text_bytes,
                interval=timing.checkpoint_interval,
                chunk_bytes=timing.checkpoint_bytes,
            )
            prompts, ends = OpenPrompts(), Ends()
            self._dispatcher = await stack.enter_async_context(
                Dispatcher(self.journal, slots, self.hub, live, prompts, ends, limits, timing)
            )
            prompting = Prompting(self.journal, live, addresses, limits, timing)
            scoped = Scoped(self.journal, live, self._dispatcher.calls)
            documents = await stack.enter_async_context(Collections(scoped))
            commands = Commands(
                self.journal, self.hub, live, StreamCommands(self.journal, live, limits), prompting,
                State(scoped, limits), documents, Tasks(scoped, ends, limits), limits,
            )  # fmt: skip
            await self._dispatcher.name_owners(
                {name: app.owner for name, app in settings.apps.items() if app.owner}
            )
            sweep = await stack.enter_async_context(
                Sweep(self.journal, self._dispatcher, slots, timing)
            )
            conversations = Conversations(self.journal, limits, self._dispatcher.app, addresses)
            followers = Followers(self.journal, self.hub, live, prompts, limits)
            tokens = _tokens(settings, self._home)
            self._server = Server(
                settings,
                tokens,
                HandlerService(self._dispatcher, commands, limits, timing),
                SessionService(self._dispatcher, commands, limits),
                StateService(self._dispatcher, commands),
                CollectionService(self._dispatcher, commands),
                TaskService(self._dispatcher, commands),
                ChannelService(conversations, followers),
                FileService(self.files, conversations, timing),
                AdminService(
                    Operations(self.journal, self._dispatcher, self.hub, limits),
                    ClockHand(self.journal, sweep, slots, enabled=settings.test_clock),
                ),
            )
            self._http = self._face(tokens, conversations, followers, live, prompts, slots)
            self.address: Address = await self._server.start()
            # Ended last: followers are beaten for while the rest drains.
            keeper = asyncio.create_task(self._keep(), name="keeper")
            stack.push_async_callback(_cancel, keeper)
            stack.push_async_callback(self._stop)
            self.http_address: Address = await self._http.start()
            addresses.base = _base(settings, self.http_address)
            self._stack = stack.pop_all()
        return self

    def _face(
        self,
        tokens: Tokens,
        conversations: Conversations,
        followers: Followers,
        live: LiveStreams,
        prompts: OpenPrompts,
        slots: Slots,
    ) -> HttpServer:
        """Build the HTTP side."""
        settings = self._settings
        limits, timing = settings.limits, settings.timing
        secure = settings.tls.enabled or (settings.web.public_url or "").startswith("https:")
        visitors = Visitors(
            Apps(self.journal, settings.apps, self._dispatcher.app),
            SignIns(self.journal, settings.web.sign_in_ttl),
            Rate("guests from one address", limits.guests_per_minute),
            frozenset(name for name, app in settings.apps.items() if "guest" not in app.sign_in),
            {app.host: name for name, app in settings.apps.items() if app.host is not None},
            secure=secure,
        )
        chat = ChatApi(conversations, followers, visitors, limits, timing)
        calls = self._dispatcher.calls
        apps = AppApi(calls, slots, visitors, limits, timing)
        files = FileApi(self.files, visitors, limits, timing)

        def gauges() -> dict[str, tuple[str, float]]:
            return {
                "ready": ("Whether work is taken.", self.state.ready),
                "handlers": ("Handler processes that are attached.", self.state.handlers),
                "followers": ("Followers of any kind.", self.hub.followers),
                "event_streams": ("Server-Sent Events being read.", chat.readers.total),
                "http_connections": ("Open HTTP connections.", self._http.connections),
                "open_streams": ("Replies being streamed.", live.total),
                "web_calls": ("Requests that apps are answering.", calls.total),
                "web_calls_waiting": ("Requests that wait for a place.", calls.waiting),
                "uploads": ("Files being uploaded.", self.files.uploading),
                "open_prompts": ("Prompts that wait for a person.", prompts.total),
            }

        def counters() -> dict[str, tuple[str, float]]:
            return {"events": ("Events that were appended.", self.hub.published)}

        metrics = Metrics(gauges, counters)
        status = StatusApi(lambda: self.state, metrics, tokens)
        described = [
            *chat.operations, *files.operations, *apps.operations, *status.operations,
        ]  # fmt: skip
        pages = Pages(visitors).operations
        return HttpServer(build(settings, described, pages, metrics), settings)

    @property
    def state(self) -> Readiness:
        """Whether work is taken, and by how many it is done."""
        return Readiness(self._healthy and not self._stopping, len(self._dispatcher.processes))

    @property
    def _healthy(self) -> bool:
        return self.journal.healthy and self.files.healthy

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def hurry(self) -> None:
        """End the time of grace for what runs."""
        self._hurried = True

    async def _stop(self) -> None:
        """Take no new work, let what runs finish, end followers, then the rest."""
        self._stopping = True
        self._dispatcher.drain_all()
        self.files.close()
        await self._server.healthy(False)
        until = time.monotonic() + self._settings.timing.drain_grace
        # Once in a life: an event would be in the way of every outcome.
        while self._busy and not self._hurried and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self._dispatcher.let_go()
        self.hub.close()
        await asyncio.gather(self._server.stop(_STOP_SECONDS), self._http.stop())

    @property
    def _busy(self) -> bool:
        return self._dispatcher.busy or self.files.uploading > 0

    async def _keep(self) -> None:
        """Beat for the followers, and let health say whether storage writes."""
        beat = self._settings.timing.follow_beat
        last, healthy = time.monotonic(), True
        while True:
            await asyncio.sleep(min(1.0, beat / 4))
            if time.monotonic() - last >= beat * 0.75:
                last = time.monotonic()
                self.hub.beat()
            if self._healthy != healthy and not self._stopping:
                healthy = self._healthy
                await self._server.healthy(healthy)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _terms(settings: Settings) -> Terms:
    timing, limits = settings.timing, settings.limits
    return Terms(
        lease_ms=round(timing.lease_term * 1000),
        late_sweep_ms=round(3 * timing.sweep_interval * 1000),
        turn_deadline_ms=round(timing.turn_deadline * 1000),
        stop_grace_ms=round(timing.stop_grace * 1000),
        max_attempts=timing.max_attempts,
        max_waiting=limits.waiting_messages,
        max_pending_tasks=limits.pending_tasks,
        max_data_bytes=limits.max_data_bytes,
        request_retention_ms=round(timing.request_retention * 1000),
        session_ttl_ms=round(timing.session_ttl * 1000),
        task_retention_ms=round(timing.task_retention * 1000),
    )


def _addresses(settings: Settings, home: Home, clock: Clock) -> Addresses:
    given = settings.files.signing_key
    key = home.signing_key() if given is None else given.get_secret_value().encode()
    base = _base(settings, settings.http_address)
    return Addresses(key, settings.timing.file_url_ttl, base, clock)


def _base(settings: Settings, listening: Address) -> str:
    """Return the address of the HTTP side, as others see it."""
    scheme = "https" if settings.tls.enabled else "http"
    return settings.web.public_url or f"{scheme}://{listening}"


def _tokens(settings: Settings, home: Home) -> Tokens:
    declared = []
    for name, app in settings.apps.items():
        if app.token is not None:
            declared.append((app.token.get_secret_value(), name, ""))
        for channel, channel_settings in app.channels.items():
            declared.append((channel_settings.token.get_secret_value(), name, channel))
    return Tokens(home.token, declared, settings.apps)


def configure_logs(settings: Settings) -> None:
    """Send logs to standard error, as lines for a person or as JSON."""
    level = getattr(logging, settings.log.level.upper())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Alembic tells of every migration it looks at.
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


async def serve(settings: Settings, home: Home, life_fd: int | None) -> int:
    """Serve until SIGTERM, SIGINT or the parent's end; a second signal ends the grace."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    sidecar = Sidecar(settings, home)

    def stop() -> None:
        if stopping.is_set():
            sidecar.hurry()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        async with watched(life_fd, stopping.set), sidecar:
            http = f"{'https' if settings.tls.enabled else 'http'}://{sidecar.http_address}"
            sys.stdout.write(f"ready grpc={sidecar.address} http={http}\n")
            sys.stdout.flush()
            logger.info(
                "serving",
                version=__version__,
                grpc=str(sidecar.address),
                http=http,
                home=str(home.path),
            )
            await stopping.wait()
            logger.info("stopping")
    except (DomainError, RuntimeError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError):
            text = f"{settings.http} cannot be served: {error.strerror}" + (
                "; choose another port for HTTP: --http 127.0.0.1:7481"
                if is_taken(settings.http_address)
                else ""
            )
        if isinstance(error, RuntimeError) and is_taken(settings.grpc_address):
            # gRPC says only that it failed.
            text = (
                f"{settings.grpc} is taken: something listens there already, perhaps another"
                " sidecar. End it, or choose another port: --grpc 127.0.0.1:7401"
            )
        sys.stderr.write(f"{text}\n")
        return 1
    return 0


def run(settings: Settings, life_fd: int | None = None) -> int:
    """Serve in a loop of its own; return the exit code. Of `life_fd`, see `life`.

    Raises:
        HomeError: The home cannot be used, or another sidecar uses it.
    """
    configure_logs(settings)
    with open_home(settings.home) as home:
        return uvloop.run(serve(settings, home, life_fd))

"""`capsule-sidecar dev`: sidecar and handler in one terminal, the handler reloading on change."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from capsule_sidecar.commands import processes
from capsule_sidecar.commands.page import open_page, page_address
from capsule_sidecar.commands.processes import Child, Ready
from capsule_sidecar.config import ConfigError, load_settings

START_TIMEOUT = 30.0  # seconds until the sidecar must be ready


def dev(
    target: str, config: Path | None, home: Path | None, grpc: str | None, http: str | None
) -> int:
    """Runs both until Ctrl-C, SIGTERM, or one of them ends; returns the exit code.

    Once the app has attached, it says where its chat page is, and opens it where somebody sits at
    a terminal with a screen.
    """
    try:
        settings = load_settings(config, home=home, grpc=grpc, http=http)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    command = [processes.program("capsule-sidecar"), "serve", "--home", str(settings.home)]
    command += ["--grpc", settings.grpc]
    if http is not None:
        command += ["--http", http]
    if config is not None:
        command += ["--config", str(config)]
    return asyncio.run(_run(command, target, settings.home))


async def _run(serve: list[str], target: str, home: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    say = processes.prefixed("dev")
    ready: asyncio.Future[Ready] = loop.create_future()
    write = processes.prefixed("sidecar")

    def on_line(line: str) -> None:
        found = processes.ready_addresses(line)
        if found and not ready.done():
            ready.set_result(found)
        write(line)

    sidecar = await Child.start("sidecar", serve, on_line)
    children = [sidecar]
    try:
        await processes.first_of(ready, sidecar.wait(), stop.wait(), timeout=START_TIMEOUT)
        if not ready.done():
            say("stopped" if stop.is_set() else "the sidecar did not start")
            return 0 if stop.is_set() else 1
        addresses = ready.result()
        show = processes.prefixed("handler")
        introduced = False

        def on_handler_line(line: str) -> None:
            nonlocal introduced
            show(line)
            app = "" if introduced else processes.attached_app(line)
            if app:
                introduced = True
                _introduce(app, addresses, home)

        handler = await Child.start(
            "handler",
            [processes.program("capsule-client"), "run", target, "--reload"],
            on_handler_line,
            env={**os.environ, "CAPSULE_ADDRESS": addresses.grpc, "CAPSULE_HOME": str(home)},
        )
        children.insert(0, handler)  # ended first: what it has to say is still taken
        await processes.first_of(stop.wait(), sidecar.wait(), handler.wait())
        for child in children:
            if child.process.returncode is not None:
                say(f"the {child.name} {processes.ending(child.process.returncode)}")
        return 0 if stop.is_set() else 1
    finally:
        for child in children:
            await child.stop()


def _introduce(app: str, addresses: Ready, home: Path) -> None:
    """Says how to talk to the app, and opens its page."""
    say = processes.prefixed("dev")
    if sys.stdin.isatty():
        say("in another terminal: " + _chat_hint(app, addresses.grpc, home))
    if addresses.http:
        address = page_address(addresses.http, app)
        say(f"the chat page: {address}")
        open_page(address)


def _chat_hint(app: str, address: str, home: Path) -> str:
    env = {}
    if address != "127.0.0.1:7400":
        env["CAPSULE_ADDRESS"] = address
    if home != Path(".capsule"):
        env["CAPSULE_HOME"] = str(home)
    return processes.quoted([processes.called(), "chat", app], env)

"""`make run`: the sidecar and the demo app as two processes, and the app's chat page.

It says how to restart either one by hand, and restarts nothing by itself: kill one in the middle
of an answer, start it again in another terminal, and nothing is lost or doubled.

CAPSULE_GRPC, CAPSULE_HTTP (HOST:PORT) and CAPSULE_HOME choose other places than 127.0.0.1:7400,
127.0.0.1:7480 and .capsule. On a terminal with a screen the page opens in the browser, in the one
that BROWSER names if it does. It serves until SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from capsule_sidecar.address import Address, is_taken, parse_address
from capsule_sidecar.commands import processes
from capsule_sidecar.commands.page import open_page, page_address
from capsule_sidecar.commands.processes import Child, Ready
from capsule_sidecar.config import ConfigError, Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
APP = "demo"
START_TIMEOUT = 30.0  # seconds until the sidecar must be ready
ATTACH_TIMEOUT = 10.0  # seconds that the app is waited for; it may come later


class Demo:
    """The two processes, and what is said about them."""

    def __init__(self, home: Path, grpc: Address) -> None:
        self.home = home
        self.grpc = grpc
        self.http = ""  # http://HOST:PORT, once the sidecar has said so
        self.children: list[Child] = []

    def serve_command(self) -> list[str]:
        """What starts the sidecar; once it serves, at the very addresses that it has."""
        command = [processes.program("capsule-sidecar"), "serve", "--home", str(self.home)]
        command += ["--grpc", str(self.grpc)]
        if self.http:
            command += ["--http", self.http.partition("://")[2]]
        return command

    def app_command(self) -> list[str]:
        """What starts the demo app."""
        return [processes.program("capsule-client"), "run", "examples/demo/app.py:app"]

    def chat_command(self) -> list[str]:
        """What talks to the app in a terminal."""
        return [processes.program("capsule-sidecar"), "chat", APP]

    def client_variables(self) -> dict[str, str]:
        """What the app and a chat need to find the sidecar; empty for the usual place."""
        variables = {}
        if str(self.grpc) != "127.0.0.1:7400":
            variables["CAPSULE_ADDRESS"] = str(self.grpc)
        if self.home != Path(".capsule"):
            variables["CAPSULE_HOME"] = str(self.home)
        return variables

    def restart(self, name: str) -> str:
        """Returns what a person types to start a process again."""
        if name == "sidecar":
            return typed(self.serve_command())
        return typed(self.app_command(), self.client_variables())

    async def start(self, stop: asyncio.Event) -> bool:
        """Starts both; returns False where the sidecar did not come up, or `stop` was set."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Ready] = loop.create_future()
        last = [""]

        def on_sidecar_line(line: str) -> None:
            last[0] = line
            found = processes.ready_addresses(line)
            if found and not ready.done():
                ready.set_result(found)

        sidecar = await self._start("sidecar", self.serve_command(), {}, on_sidecar_line)
        await processes.first_of(ready, sidecar.wait(), stop.wait(), timeout=START_TIMEOUT)
        if not ready.done():
            if not stop.is_set():
                print(f"The sidecar did not start: {last[0]}", file=sys.stderr)
            return False
        self.grpc = parse_address(ready.result().grpc)
        self.http = ready.result().http
        attached: asyncio.Future[None] = loop.create_future()

        def on_app_line(line: str) -> None:
            if processes.attached_app(line) and not attached.done():
                attached.set_result(None)

        variables = self.client_variables()
        app = await self._start("app", self.app_command(), variables, on_app_line)
        # The page of an app that has never attached shows that there is none.
        await processes.first_of(attached, app.wait(), stop.wait(), timeout=ATTACH_TIMEOUT)
        return not stop.is_set()

    async def _start(
        self,
        name: str,
        command: list[str],
        variables: dict[str, str],
        on_line: Callable[[str], None],
    ) -> Child:
        show = processes.prefixed(name)

        def take(line: str) -> None:
            show(line)
            on_line(line)

        child = await Child.start(name, command, take, {**os.environ, **variables})
        self.children.append(child)
        return child

    def introduce(self) -> None:
        """Says what runs, how to restart it, and where the page is, which it opens."""
        for child in self.children:
            print(f"{child.name:<8} process {child.pid}, restart: {self.restart(child.name)}")
        print(f"{'chat':<8} in a terminal: {typed(self.chat_command(), self.client_variables())}")
        page = page_address(self.http, APP) if self.http else ""
        if page:
            print(f"{'page':<8} {page}")
        print("Kill either one in the middle of an answer, and restart it in another terminal.")
        print("Ctrl-C ends both.", flush=True)
        if page:
            open_page(page)

    async def watch(self, child: Child) -> None:
        """Says when a process has ended, and goes on."""
        code = await child.wait()
        print(
            f"The {child.name} (process {child.pid}) {processes.ending(code)}."
            f" Restart it with: {self.restart(child.name)}",
            flush=True,
        )

    async def end(self) -> None:
        """Ends what was started here and still runs, the app first."""
        for child in reversed(self.children):
            await child.stop()


def typed(command: list[str], variables: dict[str, str] | None = None) -> str:
    """Returns a command as it can be typed in any other terminal, wherever that one is.

    Its program is named from the repository's root, where it is in it.
    """
    program = Path(command[0])
    if program.is_relative_to(ROOT):
        program = program.relative_to(ROOT)
    line = processes.quoted([str(program), *command[1:]], variables)
    return f"cd {shlex.quote(str(ROOT))} && {line}"


async def run(demo: Demo) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    watchers: list[asyncio.Task[None]] = []
    try:
        if not await demo.start(stop):
            return 0 if stop.is_set() else 1
        demo.introduce()
        watchers += [asyncio.create_task(demo.watch(child)) for child in demo.children]
        await stop.wait()
        return 0
    finally:
        for watcher in watchers:
            watcher.cancel()
        if demo.children:
            print("Ending what was started here.", flush=True)
        await demo.end()


def taken(settings: Settings) -> str:
    """Returns what to say where one of the two ports is not free. Empty: both are."""
    for address, variable, other in (
        (settings.grpc_address, "CAPSULE_GRPC", "127.0.0.1:7401"),
        (settings.http_address, "CAPSULE_HTTP", "127.0.0.1:7481"),
    ):
        if is_taken(address):
            return (
                f"{address} is taken: something listens there already, perhaps a sidecar of an"
                f" earlier run.\nEnd it, or choose another port: {variable}={other} make run"
            )
    return ""


def main() -> int:
    os.chdir(ROOT)
    try:
        settings = load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if said := taken(settings):
        print(said, file=sys.stderr)
        return 1
    return asyncio.run(run(Demo(settings.home, settings.grpc_address)))


if __name__ == "__main__":
    sys.exit(main())

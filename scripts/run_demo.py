"""`make run`: the sidecar and the demo app as two processes, and a chat with it.

It says how to restart either one by hand, and restarts nothing by itself: kill one in the middle
of an answer, start it again in another terminal, and nothing is lost or doubled.

CAPSULE_GRPC (HOST:PORT) and CAPSULE_HOME choose other places than 127.0.0.1:7400 and .capsule.
Without a terminal it only serves, until SIGTERM or Ctrl-C.
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
from capsule_sidecar.commands.processes import Child
from capsule_sidecar.config import ConfigError, load_settings

ROOT = Path(__file__).resolve().parent.parent
APP = "demo"
START_TIMEOUT = 30.0  # seconds until the sidecar must be ready


class Demo:
    """The two processes, and what is said about them."""

    def __init__(self, home: Path, address: Address, *, terminal: bool) -> None:
        self.home = home
        self.address = address
        self.terminal = terminal
        # To be shown between the lines of the chat; written at once where there is none.
        self.notices: asyncio.Queue[str] = asyncio.Queue(100)
        self.chatting = False
        self.children: list[Child] = []

    def say(self, text: str) -> None:
        """Says a line about the processes."""
        if self.chatting and not self.notices.full():
            self.notices.put_nowait(text)
        else:
            print(text, flush=True)

    def serve_command(self) -> list[str]:
        """What starts the sidecar."""
        return [
            processes.program("capsule-sidecar"), "serve",
            "--home", str(self.home), "--grpc", str(self.address),
        ]  # fmt: skip

    def app_command(self) -> list[str]:
        """What starts the demo app."""
        return [processes.program("capsule-client"), "run", "examples/demo/app.py:app"]

    def client_variables(self) -> dict[str, str]:
        """What the app and a chat need to find the sidecar; empty for the usual place."""
        variables = {}
        if str(self.address) != "127.0.0.1:7400":
            variables["CAPSULE_ADDRESS"] = str(self.address)
        if self.home != Path(".capsule"):
            variables["CAPSULE_HOME"] = str(self.home)
        return variables

    def restart(self, name: str) -> str:
        """Returns what a person types to start a process again."""
        if name == "sidecar":
            return in_root(processes.quoted(shortened(self.serve_command())))
        return in_root(processes.quoted(shortened(self.app_command()), self.client_variables()))

    def output(self, name: str) -> Callable[[str], None]:
        """Returns where the output of a process goes: beside a chat, into a file."""
        if not self.terminal:
            return processes.prefixed(name)
        path = self.log_file(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")

        def append(line: str) -> None:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

        return append

    def log_file(self, name: str) -> Path:
        """Where the output of a process goes when the terminal is the chat's."""
        return self.home / "logs" / f"{name}.log"

    async def start(self, stop: asyncio.Event) -> bool:
        """Starts both; returns False where the sidecar did not come up, or `stop` was set."""
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        write = self.output("sidecar")
        last = [""]

        def on_line(line: str) -> None:
            found = processes.ready_address(line)
            if found and not ready.done():
                ready.set_result(found)
            last[0] = line
            write(line)

        sidecar = await Child.start("sidecar", self.serve_command(), on_line)
        self.children.append(sidecar)
        await processes.first_of(ready, sidecar.wait(), stop.wait(), timeout=START_TIMEOUT)
        if not ready.done():
            if not stop.is_set():
                print(f"The sidecar did not start: {last[0]}", file=sys.stderr)
            return False
        self.address = parse_address(ready.result())
        self.children.append(
            await Child.start(
                "app",
                self.app_command(),
                self.output("app"),
                env={**os.environ, **self.client_variables()},
            )
        )
        return True

    def introduce(self) -> None:
        """Says what runs, and how to restart it."""
        for child in self.children:
            print(f"{child.name:<8} process {child.pid}, restart: {self.restart(child.name)}")
        if self.terminal:
            print(f"{'logs':<8} {self.log_file('sidecar')}, {self.log_file('app')}")
            print("Kill either one in the middle of an answer, and restart it in another terminal.")
            print("Ctrl-D leaves and ends what was started here.")
        else:
            chat = processes.quoted(
                shortened([processes.program("capsule-sidecar"), "chat", APP]),
                self.client_variables(),
            )
            print(f"{'chat':<8} {in_root(chat)}")
            print("Ctrl-C ends both.")
        sys.stdout.flush()

    async def watch(self, child: Child) -> None:
        """Says when a process has ended, and goes on."""
        code = await child.wait()
        self.say(
            f"The {child.name} (process {child.pid}) {processes.ending(code)}."
            f" Restart it with: {self.restart(child.name)}"
        )

    async def end(self) -> None:
        """Ends what was started here and still runs, the app first."""
        for child in reversed(self.children):
            await child.stop()


def in_root(command: str) -> str:
    """Returns a command as it can be typed in any other terminal, wherever that one is."""
    return f"cd {shlex.quote(str(ROOT))} && {command}"


def shortened(command: list[str]) -> list[str]:
    """Returns a command with its program named from the repository's root, where it is in it."""
    program = Path(command[0])
    if program.is_relative_to(ROOT):
        program = program.relative_to(ROOT)
    return [str(program), *command[1:]]


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
        if demo.terminal:
            os.environ.update(demo.client_variables())
            # What gRPC's core logs would stand in the middle of the conversation.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from capsule_sidecar.commands.chat import ChatOptions, run_chat

            demo.chatting = True
            chat = asyncio.create_task(run_chat(ChatOptions(APP), demo.notices))
            await processes.first_of(chat, stop.wait())
            demo.chatting = False
            chat.cancel()
            await asyncio.wait([chat])
        else:
            await stop.wait()
        return 0
    finally:
        for watcher in watchers:
            watcher.cancel()
        if demo.children:
            print("Ending what was started here.", flush=True)
        await demo.end()


def main() -> int:
    os.chdir(ROOT)
    try:
        settings = load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if is_taken(settings.grpc_address):
        print(
            f"{settings.grpc} is taken: something listens there already, perhaps a sidecar of an"
            " earlier run.\nEnd it, or choose another port:"
            " CAPSULE_GRPC=127.0.0.1:7401 make run",
            file=sys.stderr,
        )
        return 1
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return asyncio.run(run(Demo(settings.home, settings.grpc_address, terminal=terminal)))


if __name__ == "__main__":
    sys.exit(main())

"""`capsule-sidecar chat`: talk to an app from the terminal."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from dataclasses import dataclass

from capsule_sidecar.commands.chat_commands import COMMANDS
from capsule_sidecar.commands.chat_link import ChatError, ChatLink, find_access
from capsule_sidecar.commands.chat_screen import PlainScreen
from capsule_sidecar.commands.chat_session import Chat
from capsule_sidecar.commands.chat_terminal import TerminalScreen
from capsule_sidecar.names import APP_NAME


class _Left(Exception):
    """The person leaves: raised in a task group, it ends what runs there."""


@dataclass(frozen=True)
class ChatOptions:
    """What the command line says."""

    app: str
    session: str | None = None
    login: str | None = None
    address: str | None = None
    new: bool = False


async def run_chat(options: ChatOptions) -> int:
    """Runs a chat until the person leaves; returns the exit code of the process."""
    try:
        if not APP_NAME.fullmatch(options.app):
            raise ChatError(f"{options.app!r} is not an app's name: {APP_NAME.pattern}")
        if options.session and options.new:
            raise ChatError("--session and --new exclude each other")
        access = find_access(options.address)
        identity = f"terminal:{options.login or _login()}"
        async with ChatLink(access, options.app, identity) as link:
            if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
                runner = _in_terminal
            else:
                runner = _in_pipe
            return await runner(options, link)
    except* ChatError as errors:
        # Whatever way it was raised, through task groups or not.
        _say(_first(errors))
    except* BrokenPipeError:
        # Nobody reads the output any more; closing it again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


async def _in_terminal(options: ChatOptions, link: ChatLink) -> int:
    screen = TerminalScreen(
        lambda: chat.begin(), lambda line: chat.type(line), lambda: chat.interrupt(), COMMANDS
    )
    chat = Chat(options.app, link, screen, screen.flush, screen.leave)
    try:
        async with asyncio.TaskGroup() as tasks:
            await chat.start(tasks, options.session, new=options.new)
            tasks.create_task(chat.work())
            await screen.run()
            raise _Left
    except* _Left:
        _say_unsent(chat)
    return 0


async def _in_pipe(options: ChatOptions, link: ChatLink) -> int:
    """Lines from a pipe are handled one by one, each after the answer to the last.

    Returns 1 where a question stays open: what the lines were to do is not done.
    """
    done = asyncio.Event()
    code = 0

    async def refresh() -> None:
        """A pipe has nothing to redraw."""

    chat = Chat(options.app, link, PlainScreen(sys.stdout), refresh, done.set)

    def interrupt() -> None:
        if not chat.interrupt():
            done.set()

    async def converse() -> None:
        nonlocal code
        settled = await chat.settled()  # a greeting, or what an earlier chat left running
        async for line in _lines():
            await chat.take(line)
            settled = await chat.settled()
        if not settled:
            chat.notice("nobody answers now; what was sent waits")
        elif chat.asked:
            chat.notice("a question waits for you; it can be answered in the next chat")
            code = 1
        done.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, done.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            await chat.start(tasks, options.session, new=options.new)
            tasks.create_task(converse())
            await done.wait()
            raise _Left
    except* _Left:
        _say_unsent(chat)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
    return code


async def _lines() -> AsyncIterator[str]:
    """Yields the lines of standard input, whatever it is: pipe, file or terminal."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue(1)

    def read() -> None:
        # From the descriptor: a thread that is left behind in `sys.stdin` holds its lock at exit.
        rest = b""
        while chunk := os.read(0, 65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                put(line.decode("utf-8", "replace"))
        if rest:
            put(rest.decode("utf-8", "replace"))
        put(None)

    def put(line: str | None) -> None:
        # Waits while the chat is behind: what is typed ahead stays in the pipe.
        asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

    def run() -> None:
        try:
            read()
        except (RuntimeError, CancelledError):
            pass  # the chat is over and its loop closed

    threading.Thread(target=run, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line.rstrip("\r")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())


def _first(errors: BaseExceptionGroup[ChatError]) -> str:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)


def _say_unsent(chat: Chat) -> None:
    for line in chat.unsent:
        _say(f"not sent: {line}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - a command's own words

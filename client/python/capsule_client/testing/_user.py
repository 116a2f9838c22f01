"""A simulated user: says things, answers what is asked, and sees what a person would see."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from capsule_client.testing._link import Link
from capsule_client.testing._shown import Ended, Item, Prompt, PromptKind, item_of, prompt_of
from capsule_client.testing._view import View
from capsule_client.types import Block

T = TypeVar("T")

# A file to send: where it is, or its name and bytes.
Sendable = str | Path | tuple[str, bytes]

_PAGE = 200


class User:
    """A person in one session with the app: `kit.user("ann")` gives one.

    The session is opened by the first thing the user does, or by `open`. Every `timeout` is in
    seconds, the kit's own where None is given. What does not come in time, or can no longer come,
    is an AssertionError that tells what the user has seen so far; what the sidecar refuses is a
    CapsuleError.

    Args:
        link: The way to the sidecar.
        name: Who, without white space.
        timeout: Seconds that a wait has by default.
        kit: What keeps the other sessions, and tells what the handlers have logged.
    """

    def __init__(self, link: Link, name: str, timeout: float, kit: Keeper) -> None:
        self.name = name
        self.session_id = ""
        self._identity = f"test:{name}"
        self._link = link
        self._timeout = timeout
        self._kit = kit
        self._view = View(name, kit.aside)
        self._opening = asyncio.Lock()
        self._attached: list[str] = []  # files that go with the next message
        self._follower: asyncio.Task[None] | None = None

    # -- saying and doing ------------------------------------------------------------------------

    async def open(self, title: str = "") -> None:
        """Opens the session, if it is not open yet; the app's enter handler runs."""
        async with self._opening:
            if self.session_id:
                return
            answer = await self._link.call("OpenSession", identity=self._identity, title=title)
            self.session_id = answer.session.session_id
            call = self._link.follow(self._identity, self.session_id)
            self._follower = asyncio.create_task(self._follow(call), name=f"kit: {self.name}")
            # The enter handler's invocation is known by the log alone.
            await self._view.until(
                lambda: next(iter(self._view.running or self._view.ended), None),
                self._timeout,
                "the session opens",
            )
            self._view.awaited = next(iter(self._view.running or self._view.ended))

    async def say(self, text: str, files: Iterable[Sendable] = ()) -> None:
        """Sends a message; returns once it is durable, which is before it is answered.

        Args:
            text: The words.
            files: Paths, or names with bytes; those of `upload` go along too.
        """
        await self.open()
        for file in files:
            name, data = _file(file, None)
            self._attached.append(await self._send(name, data, ""))
        attached, self._attached = self._attached, []
        answer = await self._call("SendMessage", text=text, attachments=attached)
        self._view.caused(answer.invocation_id, "turn")

    async def act(self, name: str, payload: Any = None, *, block_id: str = "") -> None:
        """Clicks: what `@app.action(name)` handles.

        Args:
            name: The action's name.
            payload: A JSON value.
            block_id: The block that is clicked.
        """
        await self.open()
        data = b"" if payload is None else json.dumps(payload).encode()
        answer = await self._call("SendAction", name=name, block_id=block_id, payload_json=data)
        self._view.caused(answer.invocation_id, "action")

    async def stop(self) -> None:
        """Asks to stop what runs; of several, what began first.

        Raises:
            AssertionError: when nothing waits or runs.
        """
        for invocation, kind in self._view.running.items():
            if kind != "exit":
                await self._call("StopInvocation", invocation_id=invocation)
                return
        raise self._view.failure("there is nothing to stop")

    async def close(self, timeout: float | None = None) -> None:
        """Closes the session and waits until the app's exit handler has ended."""
        await self.open()
        await self._call("CloseSession")
        await self._until(lambda: self._view.closed or None, timeout, "the session closes")

    def new_session(self) -> User:
        """Returns the same person in another session."""
        return self._kit.session(self.name)

    # -- what comes back -------------------------------------------------------------------------

    async def reply(self, timeout: float | None = None) -> str:
        """Waits for the app's next message that was not taken yet, and returns its text.

        Raises:
            AssertionError: none comes in time, or the turn has ended without one.
        """
        await self.open()

        def next_reply() -> str | None:
            if self._view.replies:
                return self._view.replies.popleft()
            if (ended := self._view.silent()) is not None:
                without = " without one" if ended.status == "completed" else ""
                raise self._view.failure(f"no reply comes: {ended}{without}")
            return None

        return await self._until(next_reply, timeout, "a reply")

    async def replies(self, timeout: float | None = None) -> list[str]:
        """Waits until the turn has ended, and returns what was said and not taken yet.

        Raises:
            AssertionError: it does not end in time, or did not complete.
        """
        ended = await self.ended(timeout)
        if ended.status != "completed":
            raise self._view.failure(f"not all replies came: {ended}")
        said = list(self._view.replies)
        self._view.replies.clear()
        return said

    async def ended(self, timeout: float | None = None) -> Ended:
        """Waits until what this user caused last has ended, and returns how."""
        await self.open()
        return await self._until(
            lambda: self._view.ended.get(self._view.awaited), timeout, "the turn ends"
        )

    async def block(
        self, kind: str, /, *, block_id: str = "", timeout: float | None = None, **payload: Any
    ) -> Block:
        """Waits until a block is shown, and returns the newest of them as it is now.

        Args:
            kind: Its type.
            block_id: Its id. Empty: any.
            timeout: Seconds.
            payload: Fields that it must have, as `status="completed"`.
        """
        await self.open()

        def shown() -> Block | None:
            for block in reversed(self.blocks):
                named = block.type == kind and block_id in ("", block.id)
                if named and payload.items() <= dict(block.payload).items():
                    return block
            return None

        asked = ", ".join([kind, *(f"{name}={value!r}" for name, value in payload.items())])
        return await self._until(shown, timeout, f"a block ({asked})")

    @property
    def blocks(self) -> list[Block]:
        """The blocks that are shown, as they are now, in the order in which they appeared."""
        return list(self._view.blocks.values())

    @property
    def status(self) -> str:
        """The status line that is shown; empty where there is none."""
        return next(reversed(self._view.lines.values()), "")

    @property
    def partial(self) -> str:
        """The text so far of the reply that is being streamed; empty where there is none."""
        return next((stream.text for stream in reversed(self._view.streams.values())), "")

    @property
    def title(self) -> str:
        """The session's title."""
        return self._view.title

    async def history(self) -> list[Item]:
        """Returns the timeline, oldest first: messages, blocks, prompts, and what went wrong."""
        await self.open()
        pages: list[list[Item]] = []
        token = ""
        while True:
            page = await self._call("GetTimeline", page_size=_PAGE, page_token=token)
            pages.append([shown for item in page.items if (shown := item_of(item)) is not None])
            token = page.next_page_token
            if not token:
                return [item for items in reversed(pages) for item in items]

    # -- prompts ---------------------------------------------------------------------------------

    async def prompt(self, timeout: float | None = None) -> Prompt:
        """Waits until something is asked, and returns it; of several, what was asked first."""
        return await self._asked(None, timeout)

    async def approve(self, timeout: float | None = None) -> Prompt:
        """Waits for a question of yes or no, and says yes; returns the question."""
        return await self._answer(await self._asked("approval", timeout), approved=True)

    async def reject(self, timeout: float | None = None) -> Prompt:
        """Waits for a question of yes or no, and says no; returns the question."""
        return await self._answer(await self._asked("approval", timeout), approved=False)

    async def choose(self, option: str | int, timeout: float | None = None) -> Prompt:
        """Waits for a choice, and makes it; returns the question.

        Args:
            option: One of the options, or its place from 0.
            timeout: Seconds.

        Raises:
            AssertionError: nothing is asked in time, or there is no such option.
        """
        prompt = await self._asked("choice", timeout)
        place = option if isinstance(option, int) else _place(prompt.options, option)
        if not 0 <= place < len(prompt.options):
            raise self._view.failure(f"there is no option {option!r} in {list(prompt.options)}")
        return await self._answer(prompt, option=place)

    async def dismiss(self, timeout: float | None = None) -> Prompt:
        """Waits until something is asked, and declines to answer; returns the question."""
        return await self._answer(await self._asked(None, timeout), dismissed=True)

    async def upload(
        self,
        file: str | Path,
        data: bytes | None = None,
        *,
        content_type: str = "",
        timeout: float | None = None,
    ) -> None:
        """Answers the open question for a file; where none is asked for, the next `say` carries it.

        While a turn runs, it is waited for until it asks or ends.

        Args:
            file: A path; with `data`, a name.
            data: The bytes.
            content_type: A media type. Empty: as the name has it.
            timeout: Seconds.
        """
        await self.open()
        name, data = _file(file, data)
        file_id = await self._send(name, data, content_type)

        def asked() -> Prompt | bool | None:
            found = self._open("file")
            return found or (None if self._view.running else False)

        prompt = await self._until(asked, timeout, "a question for a file, or the turn's end")
        if isinstance(prompt, Prompt):
            await self._answer(prompt, file_id=file_id)
        else:
            self._attached.append(file_id)

    def _open(self, kind: PromptKind | None) -> Prompt | None:
        for prompt in self._view.prompts.values():
            if prompt.status == "open" and kind in (None, prompt.kind):
                return prompt
        return None

    async def _asked(self, kind: PromptKind | None, timeout: float | None) -> Prompt:
        await self.open()
        what = f"a question ({kind or 'of any kind'})"

        def asked() -> Prompt | None:
            found = self._open(kind)
            if found is None and (ended := self._view.nothing_comes()) is not None:
                raise self._view.failure(f"{what} does not come: {ended}")
            return found

        return await self._until(asked, timeout, what)

    async def _answer(self, prompt: Prompt, **answer: Any) -> Prompt:
        result = await self._link.call(
            "AnswerPrompt", identity=self._identity, prompt_id=prompt.id, **answer
        )
        ended = prompt_of(result.prompt)
        self._view.answered(ended)
        if not result.accepted:
            raise self._view.failure(f"the question was {ended.status} already")
        return ended

    # -- the line --------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Ends what follows the session; the kit calls it."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    async def _follow(self, call: Any) -> None:
        try:
            while (batch := await call.read()) is not grpc.aio.EOF:
                self._view.take(batch.frames)
            self._view.lost("the sidecar ended it")
        except grpc.aio.AioRpcError as error:
            self._view.lost(f"{error.code().name}: {error.details()}")
        finally:
            call.cancel()

    async def settle(self, timeout: float) -> None:
        """Waits a moment where a turn has said something and seems to be at its end."""
        with suppress(AssertionError):  # it was not: whoever streams for long does so
            await self._until(
                lambda: None if self._view.about_to_end else True, timeout, "the turn's end"
            )

    async def _until(self, found: Callable[[], T | None], timeout: float | None, what: str) -> T:
        return await self._view.until(found, self._timeout if timeout is None else timeout, what)

    async def _call(self, method: str, **fields: Any) -> Any:
        return await self._link.call(
            method, identity=self._identity, session_id=self.session_id, **fields
        )

    async def _send(self, name: str, data: bytes, content_type: str) -> str:
        kind = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return await self._link.upload(self._identity, name, data, kind)


class Keeper:
    """What a user knows of the kit."""

    def session(self, name: str) -> User:
        """Returns a person in a session of its own."""
        raise NotImplementedError

    def aside(self) -> str:
        """Returns what the handlers have logged, for whoever reads a failure."""
        raise NotImplementedError


def _file(file: Sendable, data: bytes | None) -> tuple[str, bytes]:
    if isinstance(file, tuple):
        return file
    if data is not None:
        return str(file), data
    path = Path(file)
    return path.name, path.read_bytes()


def _place(options: tuple[str, ...], option: str) -> int:
    return options.index(option) if option in options else -1

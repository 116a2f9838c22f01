"""The session that a terminal chat shows: gone to, followed, kept up to date on a screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_changes import PresenceChanged
from capsule_sidecar.commands.chat_link import ChatError, ChatLink
from capsule_sidecar.commands.chat_screen import Screen
from capsule_sidecar.commands.chat_stream import OutOfStep
from capsule_sidecar.commands.chat_transcript import Transcript
from capsule_sidecar.commands.chat_view import ChatView
from capsule_sidecar.commands.chat_words import safe

HELD_AFTER = 1.5  # seconds without progress until an answer counts as held for a lost process
CLOSED = "this session is closed; /new opens another"


class Following:
    """One session at a time on a screen. Everything it does on the side runs in `tasks`."""

    def __init__(
        self,
        app: str,
        link: ChatLink,
        screen: Screen,
        refresh: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Takes `refresh`, called after each change of the screen."""
        self.app = app
        self.link = link
        self.screen = screen
        self.refresh = refresh
        self.transcript = Transcript(app, screen)
        self.view: ChatView | None = None  # None: no session
        self.up = True  # the line to the sidecar
        self.tasks: asyncio.TaskGroup
        self._changed = asyncio.Event()
        self._offline = False  # it was said of this view that nobody answers
        self._follower: asyncio.Task[None] | None = None

    def notice(self, text: str) -> None:
        """Shows a line from whoever runs this chat."""
        self.screen.note(text, whole=True)
        self.tasks.create_task(self.refresh())

    def here(self) -> ChatView:
        """Returns the session that is shown.

        Raises:
            ChatError: none is.
        """
        if self.view is None:
            raise ChatError("there is no session here; /new opens one")
        return self.view

    async def go_to(self, session_id: str) -> None:
        """Leaves the session that is shown and shows another.

        Raises:
            ChatError: there is no such session.
        """
        try:
            page = await self.link.timeline(session_id)
        except ChatError as error:
            if error.reason != "NOT_FOUND":
                raise
            raise ChatError(
                f"There is no session {session_id} of {self.link.identity} in {self.app}.",
                error.reason,
            ) from error
        await self.unfollow()
        view = ChatView(session_id)
        changes = view.load(page)
        title = f"{safe(view.title)} - " if view.title else ""
        self.screen.note(f"{title}session {session_id} as {self.link.identity}; /help")
        if page.next_page_token:
            self.screen.note("(older messages are not shown)")
        for change in changes:
            self.transcript.show(change, view)
        if view.state == types_pb.SESSION_STATE_CLOSED:
            self.screen.note(CLOSED)
        self.view = view
        self._offline = False
        self._follower = self.tasks.create_task(self._follow(view))
        await self.refresh()

    async def unfollow(self) -> None:
        """Leaves the session that is shown."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])
        self.transcript.leave()
        self.view = None
        self.touch()

    async def until(self, view: ChatView, holds: Callable[[], bool]) -> None:
        """Returns when something holds of the view that is shown, or it is left."""
        while self.view is view and not holds():
            await self.change()

    async def read_to(self, view: ChatView, offset: int) -> None:
        """Returns when the view has read the log to an offset, or is left."""
        await self.until(view, lambda: view.offset >= offset)

    async def change(self) -> None:
        """Returns when anything has changed."""
        self._changed.clear()
        await self._changed.wait()

    def touch(self) -> None:
        """Says that something has changed."""
        self._changed.set()

    def line(self, up: bool) -> None:
        """Takes that the line to the sidecar is lost, or back."""
        self.up = up
        self.transcript.line(up)
        self.touch()
        self.tasks.create_task(self.refresh())

    async def _follow(self, view: ChatView) -> None:
        """Keeps the view and the screen up to date until the session is left or gone."""
        while True:
            try:
                await self._read(view)
            except OutOfStep:
                await asyncio.sleep(1.0)  # a fault of one side; not to be repeated at full speed
            except ChatError as error:
                gone = error.reason == "NOT_FOUND"
                text = "this session was deleted" if gone else str(error)
                self.transcript.leave()
                self.screen.note(safe(text), bad=not gone)
                self.view, self._follower = None, None
                self.touch()
                await self.refresh()
                return

    async def _read(self, view: ChatView) -> None:
        try:
            async with aclosing(self.link.follow(view.session_id, view.resume)) as line:
                async for frames in line:
                    for frame in frames:
                        for change in view.apply(frame):
                            self.transcript.show(change, view)
                            if isinstance(change, PresenceChanged):
                                self._presence(change.online, view)
                    self.touch()
                    await self.refresh()
        except ChatError as error:
            if error.reason != "PLACE_UNAVAILABLE":
                raise
            self.screen.note("the log begins elsewhere now; this is what it holds:")
            self.transcript.leave()
            for change in view.load(await self.link.timeline(view.session_id)):
                self.transcript.show(change, view)

    def _presence(self, online: bool, view: ChatView) -> None:
        if online and self._offline and view.streams:
            before = {key: stream.text for key, stream in view.streams.items()}
            self.tasks.create_task(self._tell_if_held(view, before))
        self._offline = not online

    async def _tell_if_held(self, view: ChatView, before: dict[str, str]) -> None:
        """The app is back, yet an answer does not go on: says why, if it stays so for a while."""
        await asyncio.sleep(HELD_AFTER)
        if self.view is view and view.online and self.up:
            now = {key: stream.text for key, stream in view.streams.items()}
            if any(now.get(key) == text for key, text in before.items()):
                self.notice(
                    "the app is back; if the attempt at this answer was lost, it is over within"
                    " 15 s (the lease) and answered anew"
                )

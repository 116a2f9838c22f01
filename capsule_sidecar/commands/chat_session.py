"""A terminal chat at work: follows one session, sends what is typed, obeys slash commands."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_link import ChatError, ChatLink
from capsule_sidecar.commands.chat_screen import Screen, Transcript, safe
from capsule_sidecar.commands.chat_view import ChatView, OutOfStep, PresenceChanged

MAX_WAITING = 100  # lines typed that were not handled yet
PATIENCE = 5.0  # seconds that a pipe waits for an app that is offline to come back

HELD_AFTER = 1.5  # seconds without progress until an answer counts as held for a lost process

HELP = """\
/new             open a new session
/sessions        list your sessions
/open N          go on with number N of the list, or with a session id
/title TEXT      set the title
/action NAME [JSON]   click, as a button of a block does
/close           close this session: the app says goodbye
/delete          delete this session
/help            this
/quit            leave; so does Ctrl-D
Ctrl-C stops an answer; pressed again, or with nothing to stop, it leaves."""


class Chat:
    """One person's chat with one app, on a screen."""

    def __init__(
        self,
        app: str,
        link: ChatLink,
        screen: Screen,
        refresh: Callable[[], Coroutine[Any, Any, None]],
        leave: Callable[[], None],
    ) -> None:
        """Takes `refresh`, called after each change of the screen, and `leave`, which ends it."""
        self._app = app
        self._link = link
        link.on_line = self._line
        self._screen = screen
        self._refresh = refresh
        self._leave = leave
        self._transcript = Transcript(app, screen)
        self.view: ChatView | None = None  # None: no session
        self._up = True  # the line to the sidecar
        self._away: float | None = None  # since when nobody answers
        self._changed = asyncio.Event()
        self._offline = False  # it was said of this view that nobody answers
        self._typed: deque[str] = deque()
        self._told = 0  # how many of them were shown as waiting
        self._sent = False  # the first of them was taken by the sidecar
        self._work = asyncio.Event()
        self._stopping: set[str] = set()
        self._listed: list[str] = []
        self._follower: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup

    async def start(self, tasks: asyncio.TaskGroup, session_id: str | None, *, new: bool) -> None:
        """Opens or resumes a session; everything later runs in `tasks`.

        Raises:
            ChatError: no sidecar, a wrong token, or no such session.
        """
        self._tasks = tasks
        if session_id is None and not new:
            session_id = await self._link.last_open_session()
        await self._go_to(session_id or await self._link.open_session())

    def notice(self, text: str) -> None:
        """Shows a line from whoever runs this chat."""
        self._screen.note(text, whole=True)
        self._tasks.create_task(self._refresh())

    def type(self, text: str) -> None:
        """Takes a line; `work` handles it. To leave needs no line to the sidecar."""
        if text.strip() == "/quit":
            self._leave()
            return
        if len(self._typed) >= MAX_WAITING:
            self.notice("too much waits to be sent: this line was dropped")
            return
        self._typed.append(text)
        self._tell_waiting()
        self._work.set()

    async def work(self) -> None:
        """Handles the lines that were typed, in order, for as long as it runs."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._typed:
                await self._handle_first()

    async def take(self, line: str) -> None:
        """Handles one line; returns when that is done."""
        self._typed.append(line)
        self._tell_waiting()
        await self._handle_first()

    @property
    def unsent(self) -> list[str]:
        """The messages that were typed and not taken by the sidecar; commands are none."""
        lines = list(self._typed)[1 if self._sent else 0 :]
        return [safe(line) for line in lines if _is_message(line)]

    async def _handle_first(self) -> None:
        await self._handle(self._typed[0])
        self._typed.popleft()
        self._told = max(self._told - 1, 0)
        self._sent = False

    def _tell_waiting(self) -> None:
        """Shows what was typed and cannot be sent now: it would seem lost otherwise."""
        if self._up:
            return
        lines = list(self._typed)
        for number in range(self._told, len(lines)):
            if _is_message(lines[number]) and not (number == 0 and self._sent):
                self.notice(f"waiting to be sent: {safe(lines[number])}")
        self._told = len(lines)

    async def _handle(self, line: str) -> None:
        """Sends a message or obeys a command; what goes wrong is shown."""
        try:
            if line.startswith("/"):
                word, _, rest = line.partition(" ")
                await self._command(word, rest.strip())
            elif line.strip():
                if self.view is None:
                    await self._go_to(await self._link.open_session())
                view = self._here()
                offset = await self._link.send(view.session_id, line)
                self._sent = True
                await self._read_to(view, offset)
        except ChatError as error:
            if error.reason == "SESSION_CLOSED":
                self._screen.note("this session is closed; /new opens another", bad=True)
            else:
                self._screen.note(safe(str(error)), bad=True)
        await self._refresh()

    def interrupt(self) -> bool:
        """Ctrl-C: stops the work at hand. Returns False where there is none, or it is told."""
        view = self.view
        invocation_id = view.stoppable() if view is not None else ""
        if view is None or not invocation_id or invocation_id in self._stopping:
            return False
        self._stopping.add(invocation_id)
        # What runs behind a line that is lost is not known: nothing is stopped yet.
        what = "stopping" if self._up else "to be stopped when the sidecar is back"
        self.notice(f"{what}; Ctrl-C again leaves")
        self._tasks.create_task(self._stop(view.session_id, invocation_id))
        return True

    async def settled(self) -> bool:
        """Returns when no work is pending in the session; False when nobody is there to do it."""
        loop = asyncio.get_running_loop()
        while (view := self.view) is not None and view.stoppable():
            if self._up and view.online is not False:
                self._away = None
            elif self._away is None:
                self._away = loop.time()
            elif loop.time() >= self._away + PATIENCE:
                return False
            try:
                async with asyncio.timeout(None if self._away is None else PATIENCE):
                    await self._change()
            except TimeoutError:
                pass
        return True

    async def _command(self, word: str, rest: str) -> None:
        match word:
            case "/help":
                self._screen.note(HELP)
            case "/quit":
                self._leave()
            case "/new":
                await self._go_to(await self._link.open_session())
            case "/sessions":
                await self._list()
            case "/open":
                await self._open(rest)
            case "/title":
                view = self._here()
                await self._read_to(view, await self._link.set_title(view.session_id, rest))
            case "/action":
                await self._click(rest)
            case "/close":
                view = self._here()
                await self._read_to(view, await self._link.close(view.session_id))
            case "/delete":
                view = self._here()
                await self._unfollow()
                await self._link.delete(view.session_id)
                self._screen.note("deleted; what you write now opens a new session")
            case _:
                self._screen.note(f"there is no {safe(word)}; /help lists what there is", bad=True)

    async def _list(self) -> None:
        sessions = (await self._link.sessions()).sessions
        self._listed = [session.session_id for session in sessions]
        here = self.view.session_id if self.view is not None else ""
        for number, session in enumerate(sessions, 1):
            when = session.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
            title = safe(session.title).replace("\n", " ") or "(no title)"
            marks = "" if session.state == types_pb.SESSION_STATE_OPEN else ", closed"
            marks += ", here" if session.session_id == here else ""
            self._screen.note(f"{number}  {title}  {session.session_id}  opened {when}{marks}")
        if not sessions:
            self._screen.note("you have no sessions")

    async def _open(self, which: str) -> None:
        if which.isdecimal():
            if not self._listed:
                self._listed = [s.session_id for s in (await self._link.sessions()).sessions]
            if not 1 <= int(which) <= len(self._listed):
                raise ChatError(f"/sessions lists no number {which}")
            which = self._listed[int(which) - 1]
        if not which:
            raise ChatError("/open takes a number of /sessions, or a session id")
        await self._go_to(which)

    async def _click(self, rest: str) -> None:
        name, _, payload = rest.partition(" ")
        if not name:
            raise ChatError("/action takes the action's name and, if it has one, its payload")
        if payload.strip():
            try:
                json.loads(payload)
            except ValueError as error:
                raise ChatError(f"the payload is not JSON: {error}") from None
        view = self._here()
        block_id = view.block_of_action(name)
        offset = await self._link.click(view.session_id, name, block_id, payload.encode())
        await self._read_to(view, offset)

    async def _stop(self, session_id: str, invocation_id: str) -> None:
        try:
            await self._link.stop(session_id, invocation_id)
        except ChatError as error:
            self._screen.note(safe(str(error)), bad=True)
            await self._refresh()

    def _here(self) -> ChatView:
        if self.view is None:
            raise ChatError("there is no session here; /new opens one")
        return self.view

    async def _go_to(self, session_id: str) -> None:
        """Leaves the session that is shown and shows another."""
        try:
            page = await self._link.timeline(session_id)
        except ChatError as error:
            if error.reason != "NOT_FOUND":
                raise
            raise ChatError(
                f"There is no session {session_id} of {self._link.identity} in {self._app}.",
                error.reason,
            ) from error
        await self._unfollow()
        view = ChatView(session_id)
        changes = view.load(page)
        title = f"{safe(view.title)} - " if view.title else ""
        self._screen.note(f"{title}session {session_id} as {self._link.identity}; /help")
        if page.next_page_token:
            self._screen.note("(older messages are not shown)")
        for change in changes:
            self._transcript.show(change, view)
        if view.state == types_pb.SESSION_STATE_CLOSED:
            self._screen.note("this session is closed; /new opens another")
        self.view = view
        self._offline = False
        self._follower = self._tasks.create_task(self._follow(view))
        await self._refresh()

    async def _unfollow(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])
        self._screen.clear()
        self.view = None
        self._touch()

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
                self._screen.note(safe(text), bad=not gone)
                self.view, self._follower = None, None
                self._touch()
                await self._refresh()
                return

    async def _read(self, view: ChatView) -> None:
        try:
            async with aclosing(self._link.follow(view.session_id, view.resume)) as line:
                async for frames in line:
                    for frame in frames:
                        for change in view.apply(frame):
                            self._transcript.show(change, view)
                            if isinstance(change, PresenceChanged):
                                self._presence(change.online, view)
                    self._touch()
                    await self._refresh()
        except ChatError as error:
            if error.reason != "PLACE_UNAVAILABLE":
                raise
            self._screen.note("the log begins elsewhere now; this is what it holds:")
            self._screen.clear()
            for change in view.load(await self._link.timeline(view.session_id)):
                self._transcript.show(change, view)

    async def _read_to(self, view: ChatView, offset: int) -> None:
        """Returns when the view has read the log to an offset, or is left."""
        while self.view is view and view.offset < offset:
            await self._change()

    def _presence(self, online: bool, view: ChatView) -> None:
        if online and self._offline and view.streams:
            before = {key: stream.text for key, stream in view.streams.items()}
            self._tasks.create_task(self._tell_if_held(view, before))
        self._offline = not online

    async def _tell_if_held(self, view: ChatView, before: dict[str, str]) -> None:
        """The app is back, yet an answer does not go on: says why, if it stays so for a while."""
        await asyncio.sleep(HELD_AFTER)
        if self.view is view and view.online and self._up:
            now = {key: stream.text for key, stream in view.streams.items()}
            if any(now.get(key) == text for key, text in before.items()):
                self.notice(
                    "the app is back; if the attempt at this answer was lost, it is over within"
                    " 15 s (the lease) and answered anew"
                )

    def _line(self, up: bool) -> None:
        self._up = up
        self._transcript.line(up)
        self._tell_waiting()
        self._touch()
        self._tasks.create_task(self._refresh())

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _touch(self) -> None:
        self._changed.set()


def _is_message(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("/")

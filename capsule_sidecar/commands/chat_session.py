"""A terminal chat at work: takes lines in order, stops what runs, knows when all is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from capsule_sidecar.commands.chat_commands import Commands, Typed
from capsule_sidecar.commands.chat_following import Following
from capsule_sidecar.commands.chat_link import ChatError, ChatLink
from capsule_sidecar.commands.chat_screen import Screen
from capsule_sidecar.commands.chat_tray import Tray
from capsule_sidecar.commands.chat_words import safe

MAX_WAITING = 100  # lines typed that were not handled yet
PATIENCE = 5.0  # seconds that a pipe waits for an app that is offline to come back


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
        self._link = link
        self._screen = screen
        self._leave = leave
        self._following = Following(app, link, screen, refresh)
        self._tray = Tray(self._following)
        self._commands = Commands(self._following, self._tray, leave, self._taken)
        link.on_line = self._line
        self._away: float | None = None  # since when nobody answers
        self._typed: deque[Typed] = deque()
        self._begun: Typed | None = None  # what is being typed: what was shown at its beginning
        self._told = 0  # how many of them were shown as waiting
        self._sent = False  # the first of them was taken by the sidecar
        self._work = asyncio.Event()
        self._stopping: set[str] = set()

    async def start(self, tasks: asyncio.TaskGroup, session_id: str | None, *, new: bool) -> None:
        """Opens or resumes a session; everything later runs in `tasks`.

        Raises:
            ChatError: no sidecar, a wrong token, or no such session.
        """
        self._following.tasks = tasks
        if session_id is None and not new:
            session_id = await self._link.last_open_session()
        await self._following.go_to(session_id or await self._link.open_session())

    def notice(self, text: str) -> None:
        """Shows a line from whoever runs this chat."""
        self._following.notice(text)

    def begin(self) -> None:
        """The person begins to type a line: what they answer is what they see now."""
        self._begun = self._seen("")

    def type(self, text: str) -> None:
        """Takes a line; `work` handles it. To leave needs no line to the sidecar."""
        begun = self._begun or self._seen("")
        self._begun = None
        if text.strip() == "/quit":
            self._leave()
            return
        if len(self._typed) >= MAX_WAITING:
            self.notice("too much waits to be sent: this line was dropped")
            return
        self._typed.append(Typed(text, begun.questions, begun.picks))
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
        self._typed.append(self._seen(line))
        self._tell_waiting()
        await self._handle_first()

    @property
    def unsent(self) -> list[str]:
        """The messages that were typed, and files attached, and not taken by the sidecar."""
        lines = list(self._typed)[1 if self._sent else 0 :]
        files = [f"(file) {name}" for name in self._tray.names]
        return [safe(line.text) for line in lines if line.is_message] + files

    @property
    def asked(self) -> bool:
        """True where a question waits for the person."""
        view = self._following.view
        return view is not None and bool(view.questions)

    def interrupt(self) -> bool:
        """Ctrl-C: stops an upload, else the work at hand. False: there is none, or it is told."""
        if self._tray.stop():
            return True
        view = self._following.view
        invocation_id = view.stoppable() if view is not None else ""
        if view is None or not invocation_id or invocation_id in self._stopping:
            return False
        self._stopping.add(invocation_id)
        # What runs behind a line that is lost is not known: nothing is stopped yet.
        what = "stopping" if self._following.up else "to be stopped when the sidecar is back"
        self.notice(f"{what}; Ctrl-C again leaves")
        self._following.tasks.create_task(self._stop(view.session_id, invocation_id))
        return True

    async def settled(self) -> bool:
        """Returns when nothing works in the session, or what does waits for the person.

        False: nobody is there to do it.
        """
        loop = asyncio.get_running_loop()
        following = self._following
        while (view := following.view) is not None and view.stoppable() and not view.asking:
            if following.up and view.online is not False:
                self._away = None
            elif self._away is None:
                self._away = loop.time()
            elif loop.time() >= self._away + PATIENCE:
                return False
            try:
                async with asyncio.timeout(None if self._away is None else PATIENCE):
                    await following.change()
            except TimeoutError:
                pass
        return True

    def _seen(self, line: str) -> Typed:
        view = self._following.view
        if view is None:
            return Typed(line)
        return Typed(line, tuple(view.questions), tuple(view.suggestions()))

    async def _handle_first(self) -> None:
        await self._commands.obey(self._typed[0])
        self._typed.popleft()
        self._told = max(self._told - 1, 0)
        self._sent = False

    def _taken(self) -> None:
        self._sent = True

    def _tell_waiting(self) -> None:
        """Shows what was typed and cannot be sent now: it would seem lost otherwise."""
        if self._following.up:
            return
        lines = list(self._typed)
        for number in range(self._told, len(lines)):
            if lines[number].is_message and not (number == 0 and self._sent):
                self.notice(f"waiting to be sent: {safe(lines[number].text)}")
        self._told = len(lines)

    async def _stop(self, session_id: str, invocation_id: str) -> None:
        try:
            await self._link.stop(session_id, invocation_id)
        except ChatError as error:
            self._screen.note(safe(str(error)), bad=True)
            await self._following.refresh()

    def _line(self, up: bool) -> None:
        self._following.line(up)
        self._tell_waiting()

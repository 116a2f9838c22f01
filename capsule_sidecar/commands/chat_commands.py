"""What a person types: messages, answers and slash commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_answers import Answers
from capsule_sidecar.commands.chat_changes import Question
from capsule_sidecar.commands.chat_files import FileProblem
from capsule_sidecar.commands.chat_following import CLOSED, Following
from capsule_sidecar.commands.chat_link import ChatError
from capsule_sidecar.commands.chat_tray import Tray
from capsule_sidecar.commands.chat_words import one_line, safe

HELP = """\
What you type is a message. While the app asks something, a line that is exactly one of the
offered answers (y, n, a button's label; an option's number or text) answers it instead.
/yes, /no        answer a question; /yes #2 answers question 2, else the newest is meant
/choose OPTION   pick an option by its number or its text; /choose #2 OPTION
/file PATH       answer with a file; /file #2 PATH
/dismiss         give no answer; /dismiss #2
/questions       show the open questions again
/attach PATH...  upload files that go with the next message; without PATH: list them
/detach N        take number N of them away
/send [TEXT]     send a message: whatever TEXT is, or the attached files without one
/pick N          send number N of the last suggestions
/action NAME [JSON]   click, as a button of a block does
/new             open a new session
/sessions        list your sessions
/open N          go on with number N of the list, or with a session id
/title TEXT      set the title
/close           close this session: the app says goodbye
/delete          delete this session
/help            this
/quit            leave; so does Ctrl-D
Tab completes commands and paths. Ctrl-C stops an upload or an answer, also one that waits for
you; pressed again, or with nothing to stop, it leaves."""

COMMANDS = tuple(
    word.rstrip(",") for line in HELP.splitlines() for word in line[:17].split() if word[0] == "/"
)


@dataclass(frozen=True)
class Typed:
    """A line, with what was on the screen when the person began to type it.

    What comes up later cannot be what they meant.
    """

    text: str
    questions: tuple[Question, ...] = ()
    # What each number of `/pick` sends.
    picks: tuple[str, ...] = ()

    @property
    def is_message(self) -> bool:
        """True for a line that would be lost if it was not sent; commands are none."""
        if self.text.startswith("/"):
            return bool(self.text.startswith("/send ") and self.text[6:].strip())
        return bool(self.text.strip())


class Commands:
    """Does what is typed, on the session that is shown."""

    def __init__(
        self,
        following: Following,
        tray: Tray,
        leave: Callable[[], None],
        on_sent: Callable[[], None],
    ) -> None:
        """Takes what ends the chat, and what is told that the sidecar has taken a message."""
        self._following = following
        self._tray = tray
        self._answers = Answers(following, tray)
        self._leave = leave
        self._on_sent = on_sent
        self._listed: list[str] = []

    async def obey(self, typed: Typed) -> None:
        """Handles a line; what goes wrong is shown."""
        screen = self._following.screen
        try:
            if typed.text.startswith("/"):
                word, _, rest = typed.text.partition(" ")
                await self._command(word, rest.strip(), typed)
            elif typed.text.strip() and not await self._answers.bare(typed.text, typed.questions):
                await self._send(typed.text)
        except (ChatError, FileProblem) as error:
            closed = isinstance(error, ChatError) and error.reason == "SESSION_CLOSED"
            screen.note(CLOSED if closed else safe(str(error)), bad=True)
        await self._following.refresh()

    async def _command(self, word: str, rest: str, typed: Typed) -> None:
        match word:
            case "/help":
                self._following.screen.note(HELP)
            case "/quit":
                self._leave()
            case "/yes" | "/no":
                await self._answers.approve(rest, typed.questions, approved=word == "/yes")
            case "/choose":
                await self._answers.choose(rest, typed.questions)
            case "/file":
                await self._answers.file(rest, typed.questions)
            case "/dismiss":
                await self._answers.dismiss(rest, typed.questions)
            case "/questions":
                self._answers.list()
            case "/attach":
                await self._tray.attach(rest)
            case "/detach":
                self._tray.detach(rest)
            case "/send":
                if not rest and not self._tray.file_ids:
                    raise ChatError("there is nothing to send: no text, and no file is attached")
                await self._send(rest)
            case "/pick":
                await self._pick(rest, typed)
            case "/action":
                await self._click(rest)
            case _:
                await self._session_command(word, rest)

    async def _session_command(self, word: str, rest: str) -> None:
        following = self._following
        match word:
            case "/new":
                await following.go_to(await following.link.open_session())
            case "/sessions":
                await self._list()
            case "/open":
                await self._open(rest)
            case "/title":
                view = following.here()
                offset = await following.link.set_title(view.session_id, rest)
                await following.read_to(view, offset)
            case "/close":
                view = following.here()
                await following.read_to(view, await following.link.close(view.session_id))
            case "/delete":
                view = following.here()
                await following.unfollow()
                await following.link.delete(view.session_id)
                following.screen.note("deleted; what you write now opens a new session")
            case _:
                raise ChatError(f"there is no {word}; /help lists what there is")

    async def _send(self, text: str) -> None:
        following = self._following
        if following.view is None:
            await following.go_to(await following.link.open_session())
        view = following.here()
        offset = await following.link.send(view.session_id, text, self._tray.file_ids)
        self._on_sent()
        self._tray.sent()
        await following.read_to(view, offset)

    async def _pick(self, rest: str, typed: Typed) -> None:
        if not rest.isdecimal() or not 1 <= int(rest) <= len(typed.picks):
            raise ChatError("/pick takes a number of the last suggestions")
        await self._send(typed.picks[int(rest) - 1])

    async def _list(self) -> None:
        following = self._following
        sessions = (await following.link.sessions()).sessions
        self._listed = [session.session_id for session in sessions]
        here = following.view.session_id if following.view is not None else ""
        for number, session in enumerate(sessions, 1):
            when = session.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
            title = one_line(session.title) or "(no title)"
            marks = "" if session.state == types_pb.SESSION_STATE_OPEN else ", closed"
            marks += ", here" if session.session_id == here else ""
            following.screen.note(f"{number}  {title}  {session.session_id}  opened {when}{marks}")
        if not sessions:
            following.screen.note("you have no sessions")

    async def _open(self, which: str) -> None:
        following = self._following
        if which.isdecimal():
            if not self._listed:
                self._listed = [s.session_id for s in (await following.link.sessions()).sessions]
            if not 1 <= int(which) <= len(self._listed):
                raise ChatError(f"/sessions lists no number {which}")
            which = self._listed[int(which) - 1]
        if not which:
            raise ChatError("/open takes a number of /sessions, or a session id")
        await following.go_to(which)

    async def _click(self, rest: str) -> None:
        name, payload = _action(rest)
        following = self._following
        view = following.here()
        block_id, carried = view.button(name)
        sent = payload.encode("utf-8", "surrogatepass") if payload else carried
        offset = await following.link.click(view.session_id, name, block_id, sent)
        await following.read_to(view, offset)


def _action(rest: str) -> tuple[str, str]:
    """Returns the name of an action, bare or as a JSON string, and the payload behind it.

    Raises:
        ChatError: there is no name, or the payload is not JSON.
    """
    name, _, payload = rest.partition(" ")
    try:
        if rest.startswith('"'):
            name, end = json.JSONDecoder().raw_decode(rest)
            payload = rest[end:]
        if payload.strip():
            json.loads(payload)
    except (ValueError, RecursionError) as error:
        what = "payload" if not rest.startswith('"') else "name or payload"
        raise ChatError(f"the {what} is not JSON: {error}") from None
    if not name:
        raise ChatError("/action takes the action's name and, if it has one, its payload")
    return name, payload.strip()

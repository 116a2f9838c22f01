"""What people do: open sessions, write, click, stop, close, delete, and look at what there is."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.model.ids import digest, new_id, parse_request_id
from capsule_sidecar.model.types import Answer as PersonsAnswer
from capsule_sidecar.model.types import InvocationStatus, Session
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.runtime.checks import check_text, check_title, page_size
from capsule_sidecar.runtime.rates import Rate
from capsule_sidecar.storage import asking, encoding, log_reads, people, session_reads, values
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.page_tokens import parse_page_token
from capsule_sidecar.storage.people import Person
from capsule_sidecar.storage.requests import Answer, Method, Request

_IDENTITY = re.compile(r"[a-z0-9_-]{1,32}:[^\x00-\x20\x7f]+")
_PENDING = 200


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of a timeline, and what it reflects."""

    items: list[session_reads.Item]
    next_token: str
    session: Session
    position: int
    pending: list[session_reads.Pending]


@dataclass(frozen=True, slots=True)
class Sent:
    """A user message that is durable; `event` is its encoded event where it carries files."""

    offset: int
    message_id: str
    invocation_id: str
    create_ms: int
    event: bytes | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who acts, in which app.

    Attributes:
        app: The app.
        identity: Who acts.
        trusted: The operator vouches: rates are not looked at.
    """

    app: str
    identity: str
    trusted: bool = False


class Conversations:
    """The people's side of sessions.

    Args:
        journal: The log.
        limits: What is taken.
        app: Finds an app's number by its name.
        addresses: Fills in the addresses of files.
    """

    def __init__(
        self,
        journal: Journal,
        limits: Limits,
        app: Callable[[str], Awaitable[int]],
        addresses: Addresses,
    ) -> None:
        self._journal = journal
        self._limits = limits
        self._app = app
        self._addresses = addresses
        self._messages = Rate("messages", limits.messages_per_minute)
        self._sessions = Rate("new sessions", limits.sessions_per_minute)
        self._changes = Rate("changes", limits.changes_per_minute)

    async def person(self, caller: Caller) -> Person:
        """Return who acts, by the app's number.

        Raises:
            InvalidArgument: The identity is malformed.
        """
        check_identity(caller.identity, self._limits.max_identity_chars)
        return Person(await self._app(caller.app), caller.app, caller.identity)

    async def app(self, name: str) -> int:
        """Return an app's number."""
        return await self._app(name)

    # -- writing ---------------------------------------------------------------------------------

    async def open_session(self, caller: Caller, request_id: str, title: str) -> Session:
        """Open a session.

        Raises:
            InvalidArgument: Identity, title or request id is malformed.
        """
        check_title(title, self._limits.max_title_chars)
        request = Request(
            Method.OPEN_SESSION, parse_request_id(request_id), digest(caller.identity, title)
        )
        person = await self.person(caller)
        if not caller.trusted:
            self._sessions.take((person.app, caller.identity))
        answer = await self._journal.submit(
            person.app, partial(people.open_session, person=person, request=request, title=title)
        )
        return await self.session(person, answer.ids[0])

    async def send_message(
        self,
        caller: Caller,
        request_id: str,
        session_id: str,
        text: str,
        attachments: Sequence[str] = (),
    ) -> Sent:
        """Append a user message and queue its turn.

        Raises:
            InvalidArgument: The text is blank and there is no file, or a file is named twice.
            LimitExceeded: The text is too long, or too many messages wait.
            NotFound: A file is not there, or is not this person's for this session.
            SessionClosed: The session takes no more input.
        """
        if text or not attachments:
            check_text(text, self._limits.max_text_bytes)
        if not attachments and not text.strip():
            raise InvalidArgument("text", "must not be only white space")
        if len(attachments) > self._limits.max_attachments:
            raise InvalidArgument(
                "attachments", f"has at most {self._limits.max_attachments} files"
            )
        if len(set(attachments)) < len(attachments):
            raise InvalidArgument("attachments", "names a file twice")
        request = Request(
            Method.SEND_MESSAGE,
            parse_request_id(request_id),
            digest(session_id, text, *attachments),
        )
        person = await self.person(caller)
        self._take_message(person, caller)
        answer = await self._journal.submit(
            person.app,
            partial(
                people.send_message, person=person, request=request, session_key=session_id,
                message_id=new_id("msg"), text=text, attachments=attachments,
            ),
        )  # fmt: skip
        event = await self._event(person, session_id, answer.offset) if attachments else None
        message_id, invocation_id, create_ms = answer.ids
        return Sent(answer.offset, message_id, invocation_id, int(create_ms), event)

    async def _event(self, person: Person, session_id: str, offset: int) -> bytes:
        def read(connection: Connection) -> bytes:
            found = session_reads.own_session(connection, person.app, session_id, person.identity)
            return log_reads.event_at(connection, found.number, offset)

        return self._addresses.event(await self._journal.read(read))

    async def send_action(
        self,
        caller: Caller,
        request_id: str,
        session_id: str,
        name: str,
        block_id: str,
        payload_json: bytes,
    ) -> tuple[int, str]:
        """Append a click and queue its action; return its offset and invocation.

        Raises:
            InvalidArgument: Name, block or payload is malformed.
            LimitExceeded: The payload is too large.
            SessionClosed: The session takes no more input.
        """
        if not 0 < len(name) <= self._limits.max_action_name_chars:
            raise InvalidArgument(
                "name", f"must have 1 to {self._limits.max_action_name_chars} characters"
            )
        if len(block_id) > self._limits.max_block_id_chars:
            raise InvalidArgument(
                "block_id", f"has at most {self._limits.max_block_id_chars} characters"
            )
        maximum = self._limits.max_action_bytes
        if len(payload_json) > maximum:
            raise LimitExceeded(
                "action_payload", maximum, f"payload_json has at most {maximum} bytes"
            )
        if payload_json.strip():
            values.check_json(payload_json, "payload_json")
        request = Request(
            Method.SEND_ACTION,
            parse_request_id(request_id),
            digest(session_id, name, block_id, payload_json),
        )
        person = await self.person(caller)
        self._take_message(person, caller)
        body = encoding.action_sent(name, block_id, payload_json)
        answer = await self._journal.submit(
            person.app,
            partial(
                people.send_action, person=person, request=request, session_key=session_id,
                name=name, body=body,
            ),
        )  # fmt: skip
        return answer.offset, answer.ids[0]

    async def answer_prompt(
        self, caller: Caller, request_id: str, prompt_id: str, answer: PersonsAnswer
    ) -> tuple[bytes, bool]:
        """Answer or dismiss a prompt; return it, encoded, as it has ended, and whether by this.

        Raises:
            NotFound: There is no such prompt of this person, or no such file.
            InvalidArgument: The answer does not fit.
        """
        given = (answer.file_id or "", str(answer.approved), str(answer.option))
        request = Request(
            Method.ANSWER_PROMPT, parse_request_id(request_id), digest(prompt_id, *given)
        )
        person = await self.person(caller)
        self._take_message(person, caller)
        prompt, accepted = await self._journal.submit(
            person.app,
            partial(
                asking.answer_prompt, person=person, request=request, key=prompt_id, answer=answer
            ),
        )
        return self._addresses.prompt(prompt), accepted

    async def update_session(
        self, caller: Caller, request_id: str, session_id: str, title: str
    ) -> Session:
        """Change the title.

        Raises:
            InvalidArgument: The title is malformed.
        """
        check_title(title, self._limits.max_title_chars)
        request = Request(
            Method.UPDATE_SESSION, parse_request_id(request_id), digest(session_id, title)
        )
        person = await self._changing(caller)
        await self._journal.submit(
            person.app,
            partial(
                people.update_session, person=person, request=request, session_key=session_id,
                title=title,
            ),
        )  # fmt: skip
        return await self.session(person, session_id)

    async def stop(
        self, caller: Caller, request_id: str, session_id: str, invocation_id: str
    ) -> InvocationStatus:
        """Stop an invocation; return RUNNING where its handler has been told, else its end.

        Raises:
            InvalidArgument: It is an exit invocation.
        """
        request = Request(
            Method.STOP_INVOCATION, parse_request_id(request_id), digest(session_id, invocation_id)
        )
        person = await self._changing(caller)
        answer = await self._journal.submit(
            person.app,
            partial(
                people.stop_invocation, person=person, request=request, session_key=session_id,
                invocation_key=invocation_id,
            ),
        )  # fmt: skip
        return InvocationStatus(answer.offset)

    async def stop_current(
        self, caller: Caller, request_id: str, session_id: str
    ) -> InvocationStatus:
        """Stop what runs in a session, or else what would run next.

        Raises:
            NotFound: Nothing that can be stopped runs or waits.
        """
        request = Request(
            Method.STOP_INVOCATION, parse_request_id(request_id), digest(session_id, "")
        )
        person = await self._changing(caller)
        answer = await self._session_request(person, people.stop_current, request, session_id)
        return InvocationStatus(answer.offset)

    async def _changing(self, caller: Caller) -> Person:
        """Return who changes something that is not a message."""
        person = await self.person(caller)
        if not caller.trusted:
            self._changes.take((person.app, caller.identity))
        return person

    def _take_message(self, person: Person, caller: Caller) -> None:
        if not caller.trusted:
            self._messages.take((person.app, caller.identity))

    async def close_session(self, caller: Caller, request_id: str, session_id: str) -> Session:
        """Refuse new input and queue the exit invocation."""
        request = Request(Method.CLOSE_SESSION, parse_request_id(request_id), digest(session_id))
        person = await self._changing(caller)
        await self._session_request(person, people.close_session, request, session_id)
        return await self.session(person, session_id)

    async def delete_session(self, caller: Caller, request_id: str, session_id: str) -> None:
        """Stop all work of a session and remove it."""
        request = Request(Method.DELETE_SESSION, parse_request_id(request_id), digest(session_id))
        person = await self._changing(caller)
        await self._session_request(person, people.delete_session, request, session_id)

    async def _session_request(
        self, person: Person, operation: Callable[..., Answer], request: Request, session_id: str
    ) -> Answer:
        return await self._journal.submit(
            person.app, partial(operation, person=person, request=request, session_key=session_id)
        )

    # -- reading ---------------------------------------------------------------------------------

    async def session(self, person: Person, session_id: str) -> Session:
        """Return a session of this person."""
        found = await self._journal.read(
            partial(
                session_reads.own_session, app=person.app, key=session_id, identity=person.identity
            )
        )
        return found.session

    async def list_sessions(
        self, caller: Caller, size: int, token: str, query: str
    ) -> tuple[list[Session], str, int]:
        """Return a page of the person's sessions, the next token and the position it reflects.

        Raises:
            InvalidArgument: Size, token or query is malformed.
        """
        if len(query) > self._limits.max_title_chars:
            raise InvalidArgument("query", f"has at most {self._limits.max_title_chars} characters")
        if "\0" in query:
            raise InvalidArgument("query", "must not have a NUL, which no title has")
        person = await self.person(caller)
        size = page_size(size, self._limits)

        def page(connection: Connection) -> tuple[list[Session], str, int]:
            sessions, following = session_reads.list_sessions(
                connection, person.app, person.identity, query, size, token
            )
            return sessions, following, log_reads.last_position(connection, person.app)

        return await self._journal.read(page)

    async def timeline(self, caller: Caller, session_id: str, size: int, token: str) -> Timeline:
        """Return a page of a session's timeline, the newest first.

        Raises:
            InvalidArgument: Size or token is malformed.
        """
        before = parse_page_token(token, "timeline", 3)
        person = await self.person(caller)
        size = page_size(size, self._limits)

        def page(connection: Connection) -> Timeline:
            found = session_reads.own_session(connection, person.app, session_id, person.identity)
            items, following = session_reads.timeline(
                connection, found.number, size, self._limits.page_bytes, before
            )
            items = [replace(item, event=self._addresses.event(item.event)) for item in items]
            waiting = [] if token else session_reads.pending(connection, found.number, _PENDING)
            position = log_reads.last_position(connection, person.app)
            return Timeline(items, following, found.session, position, waiting)

        return await self._journal.read(page)


def check_identity(identity: str, maximum: int) -> None:
    """Check who acts.

    Raises:
        InvalidArgument: It is not `<channel>:<external id>`.
    """
    if len(identity) > maximum or not _IDENTITY.fullmatch(identity):
        raise InvalidArgument(
            "identity", f"must be <channel>:<external id>, of at most {maximum} characters"
        )

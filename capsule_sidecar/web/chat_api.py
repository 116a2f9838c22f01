"""The chat API: sessions, messages, clicks, Stop, and who is signed in."""

from __future__ import annotations

import time
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from capsule_protocol.v1 import channel_service_pb2 as pb
from capsule_sidecar import __version__
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.rpc import convert
from capsule_sidecar.runtime.conversations import Conversations
from capsule_sidecar.runtime.followers import Followers, Write
from capsule_sidecar.runtime.rates import Shares
from capsule_sidecar.storage import encoding
from capsule_sidecar.web import event_stream
from capsule_sidecar.web.bodies import Bodies
from capsule_sidecar.web.event_stream import EventStream
from capsule_sidecar.web.json_form import from_json, to_json
from capsule_sidecar.web.operations import Body, Operation, Query
from capsule_sidecar.web.requests import (
    JSON,
    Visitor,
    Visitors,
    integer,
    request_id_of,
)

_M = TypeVar("_M", bound=Message)
_MAX_PAGE = (1 << 31) - 1
_APP = "/apps/{app}"
_V1 = f"{_APP}/v1"
_SESSION = f"{_V1}/sessions/{{session_id}}"

# What str.strip takes for white space; each dialect of regular expressions has a \s of its own.
_SPACES = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_HEX = "[0-9a-fA-F]"
# One of these answers a prompt.
_ANSWERS = ("file_id", "approved", "option", "dismissed")
REQUEST_ID = {
    "type": "string",
    "description": "A UUID. Empty: none; sent again, it would be done twice.",
    "pattern": (
        rf"^((urn:uuid:)?\{{?({_HEX}{{32}}|{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}})\}}?)?$"
    ),
}
_PAGES = (
    Query(
        "page_size",
        {"type": "integer", "minimum": 0, "maximum": _MAX_PAGE},
        "0 means 50; above 200 is taken as 200.",
    ),
    Query("page_token", {"type": "string"}, "From the last page. Empty: the first page."),
)
_PLACES = (
    Query(
        "after",
        {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
        "Begin behind this place. 0: from the beginning.",
    ),
    Query(
        "Last-Event-ID",
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
        "The id of the last event that was read; wins over `after`.",
        header=True,
    ),
)
_CONFIG = {
    "type": "object",
    "properties": {
        "app": {"type": "string"},
        "sign_in": {"type": "array", "items": {"type": "string"}},
        "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
        "version": {"type": "string"},
    },
    "required": ["app", "sign_in", "limits", "version"],
}


class ChatApi:
    """Answers the pages' and other HTTP clients' requests.

    Args:
        conversations: What people do.
        followers: How they look on.
        visitors: Who they are.
        limits: What is taken.
        timing: What is waited for.
    """

    def __init__(
        self,
        conversations: Conversations,
        followers: Followers,
        visitors: Visitors,
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._conversations = conversations
        self._followers = followers
        self._visitors = visitors
        self._limits = limits
        self._bodies = Bodies(limits, timing)
        self._recheck = timing.follow_beat
        self.readers = Shares("event streams", limits.followers_per_user)
        title = {
            "type": "string",
            "maxLength": limits.max_title_chars,
            "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$",
        }
        name = {"type": "string", "minLength": 1, "maxLength": limits.max_action_name_chars}
        block = {"type": "string", "maxLength": limits.max_block_id_chars}
        text = {"type": "string", "minLength": 1, "pattern": f"[^{_SPACES}]"}
        attachments = {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": limits.max_attachments,
            "uniqueItems": True,
        }
        either = [
            {"required": ["text"], "properties": {"text": text}},
            {"required": ["attachments"], "properties": {"attachments": {"minItems": 1}}},
        ]
        ids = {"request_id": REQUEST_ID}
        self._open = Body(pb.OpenSessionRequest, rules={"title": title, **ids})
        self._update = Body(
            pb.UpdateSessionRequest, required=("title",), rules={"title": title, **ids}
        )
        self._message = Body(
            pb.SendMessageRequest,
            large=True,
            rules={"attachments": attachments, **ids},
            whole={"anyOf": either},
        )
        self._stop = Body(pb.StopInvocationRequest, rules=ids)
        self._answer = Body(
            pb.AnswerPromptRequest,
            omit=frozenset({"identity", "prompt_id"}),
            rules={
                "option": {"type": "integer", "minimum": 0, "maximum": _MAX_PAGE},
                "dismissed": {"const": True},
                **ids,
            },
            whole={"oneOf": [{"required": [name]} for name in _ANSWERS]},
        )
        self._action = Body(
            pb.SendActionRequest,
            large=True,
            required=("name",),
            rules={"name": name, "block_id": block, **ids},
        )

    @property
    def operations(self) -> list[Operation]:
        """What there is."""
        query = Query(
            "query",
            {"type": "string", "maxLength": self._limits.max_title_chars},
            "Only sessions whose title contains it.",
        )
        request_id = Query("request_id", REQUEST_ID, "Makes it safe to send again.")
        user = {
            "type": "object",
            "properties": {
                "user": {"$ref": "#/components/schemas/UserInfo"},
                "method": {"type": "string"},
            },
            "required": ["user", "method"],
        }
        return [
            Operation("GET", f"{_APP}/auth/user", "getUser", "Who is signed in.",
                      self.get_user, answer=user),
            Operation("POST", f"{_APP}/auth/guest", "signInAsGuest", "Sign in as a guest.",
                      self.sign_in_as_guest, 201, user, also=(200,), signed_in=False),
            Operation("POST", f"{_APP}/auth/sign-out", "signOut", "End the sign-in.",
                      self._visitors.sign_out, 204, signed_in=False),
            Operation("GET", f"{_V1}/config", "getConfig", "What a page needs to know of an app.",
                      self.get_config, answer=_CONFIG, signed_in=False),
            Operation("GET", f"{_V1}/sessions", "listSessions", "List and search sessions.",
                      self.list_sessions, answer=pb.ListSessionsResponse,
                      query=(*_PAGES, query)),
            Operation("POST", f"{_V1}/sessions", "openSession",
                      "Open a session; whoever is not signed in becomes a guest.",
                      self.open_session, 201, pb.OpenSessionResponse, body=self._open,
                      errors=(409,), signed_in=False),
            Operation("GET", _SESSION, "getSession",
                      "A page of the timeline, and the offset and position it reflects.",
                      self.get_session, answer=pb.GetTimelineResponse, query=_PAGES),
            Operation("PATCH", _SESSION, "updateSession", "Change the title.",
                      self.update_session, answer=pb.UpdateSessionResponse, body=self._update,
                      errors=(409,)),
            Operation("DELETE", _SESSION, "deleteSession", "Stop all work and remove the session.",
                      self.delete_session, 204, query=(request_id,), errors=(409,)),
            Operation("POST", f"{_SESSION}/messages", "sendMessage",
                      "Send a message; it is durable when this answers.",
                      self.send_message, 202, pb.SendMessageResponse, body=self._message,
                      errors=(409,)),
            Operation("POST", f"{_SESSION}/stop", "stop", "Stop what runs, or a named invocation.",
                      self.stop, answer=pb.StopInvocationResponse, body=self._stop,
                      errors=(409,)),
            Operation("POST", f"{_SESSION}/actions", "sendAction", "Click on a block.",
                      self.send_action, 202, pb.SendActionResponse, body=self._action,
                      errors=(409,)),
            Operation("POST", f"{_V1}/prompts/{{prompt_id}}/answer", "answerPrompt",
                      "Answer or dismiss a prompt; the first answer counts.",
                      self.answer_prompt, answer=pb.AnswerPromptResponse, body=self._answer,
                      errors=(409,)),
            Operation("GET", f"{_SESSION}/events", "followSession",
                      "Server-Sent Events of a session, by offset.",
                      self.follow_session, media=EventStream.media_type, query=_PLACES,
                      errors=(416,)),
            Operation("GET", f"{_V1}/events", "followSessions",
                      "Server-Sent Events of all your sessions, by position.",
                      self.follow_all, media=EventStream.media_type, query=_PLACES,
                      errors=(416,)),
        ]  # fmt: skip

    # -- signing in --------------------------------------------------------------------------

    async def get_user(self, request: Request) -> Response:
        """Tell who is signed in."""
        visitor = await self._visitors.visitor(request)
        return self._visitors.remember(JSON(_user(visitor)), visitor)

    async def sign_in_as_guest(self, request: Request) -> Response:
        """Sign in as a guest; whoever is signed in stays who they are."""
        visitor = await self._visitors.visitor(request, welcome=True)
        response = JSON(_user(visitor), 201 if visitor.new else 200)
        return self._visitors.remember(response, visitor)

    async def get_config(self, request: Request) -> Response:
        """Tell what a page needs to know before anybody is signed in."""
        _, name = await self._visitors.app(request)
        limits = {
            "text_bytes": self._limits.max_text_bytes,
            "title_chars": self._limits.max_title_chars,
            "file_bytes": self._limits.max_file_bytes,
            "attachments": self._limits.max_attachments,
        }
        return JSON(
            {
                "app": name,
                "sign_in": self._visitors.methods(name),
                "limits": limits,
                "version": __version__,
            }
        )

    # -- sessions ------------------------------------------------------------------------------

    async def list_sessions(self, request: Request) -> Response:
        """Return a page of sessions."""
        visitor = await self._visitors.visitor(request)
        query = request.query_params
        sessions, token, position = await self._conversations.list_sessions(
            visitor.caller,
            integer(query, "page_size", _MAX_PAGE),
            query.get("page_token", ""),
            query.get("query", ""),
        )
        answer = pb.ListSessionsResponse(
            sessions=[encoding.session(entry) for entry in sessions],
            next_page_token=token,
            position=position,
        )
        return JSON(to_json(answer))

    async def open_session(self, request: Request) -> Response:
        """Open a session."""
        body = await self._body(request, self._open, pb.OpenSessionRequest)
        visitor = await self._visitors.visitor(request, welcome=True)
        session = await self._conversations.open_session(
            visitor.caller, request_id_of(body.request_id), body.title
        )
        answer = pb.OpenSessionResponse(session=encoding.session(session))
        where = f"/apps/{visitor.caller.app}/v1/sessions/{session.session_id}"
        response = JSON(to_json(answer), 201, {"location": where})
        return self._visitors.remember(response, visitor)

    async def get_session(self, request: Request) -> Response:
        """Return a page of a session's timeline."""
        visitor = await self._visitors.visitor(request)
        query = request.query_params
        page = await self._conversations.timeline(
            visitor.caller,
            request.path_params["session_id"],
            integer(query, "page_size", _MAX_PAGE),
            query.get("page_token", ""),
        )
        return JSON(to_json(convert.timeline(page)))

    async def update_session(self, request: Request) -> Response:
        """Change a session's title."""
        visitor = await self._visitors.visitor(request)
        body = await self._body(request, self._update, pb.UpdateSessionRequest)
        session = await self._conversations.update_session(
            visitor.caller,
            request_id_of(body.request_id),
            request.path_params["session_id"],
            body.title,
        )
        return JSON(to_json(pb.UpdateSessionResponse(session=encoding.session(session))))

    async def delete_session(self, request: Request) -> Response:
        """Remove a session."""
        visitor = await self._visitors.visitor(request)
        await self._conversations.delete_session(
            visitor.caller,
            request_id_of(request.query_params.get("request_id", "")),
            request.path_params["session_id"],
        )
        return Response(status_code=204)

    # -- input -----------------------------------------------------------------------------------

    async def send_message(self, request: Request) -> Response:
        """Append a user message and queue its turn."""
        visitor = await self._visitors.visitor(request)
        body = await self._body(request, self._message, pb.SendMessageRequest)
        sent = await self._conversations.send_message(
            visitor.caller,
            request_id_of(body.request_id),
            request.path_params["session_id"],
            body.text,
            body.attachments,
        )
        channel = visitor.caller.identity.partition(":")[0]
        return JSON(to_json(convert.sent(sent, body.text, channel)), 202)

    async def stop(self, request: Request) -> Response:
        """Stop an invocation."""
        visitor = await self._visitors.visitor(request)
        body = await self._body(request, self._stop, pb.StopInvocationRequest)
        session_id = request.path_params["session_id"]
        request_id = request_id_of(body.request_id)
        if body.invocation_id:
            status = await self._conversations.stop(
                visitor.caller, request_id, session_id, body.invocation_id
            )
        else:
            status = await self._conversations.stop_current(visitor.caller, request_id, session_id)
        answer = pb.StopInvocationResponse(status=int(status))  # type: ignore[arg-type]  # enum values are ints on the wire
        return JSON(to_json(answer))

    async def send_action(self, request: Request) -> Response:
        """Append a click and queue its action."""
        visitor = await self._visitors.visitor(request)
        body = await self._body(request, self._action, pb.SendActionRequest)
        offset, invocation_id = await self._conversations.send_action(
            visitor.caller,
            request_id_of(body.request_id),
            request.path_params["session_id"],
            body.name,
            body.block_id,
            body.payload_json,
        )
        answer = pb.SendActionResponse(offset=offset, invocation_id=invocation_id)
        return JSON(to_json(answer), 202)

    async def answer_prompt(self, request: Request) -> Response:
        """Answer or dismiss a prompt."""
        visitor = await self._visitors.visitor(request)
        body = await self._body(request, self._answer, pb.AnswerPromptRequest)
        answer = await self._conversations.answer_prompt(
            visitor.caller,
            request_id_of(body.request_id),
            request.path_params["prompt_id"],
            convert.persons_answer(body),
        )
        return JSON(to_json(convert.answered(*answer)))

    # -- following -------------------------------------------------------------------------------

    async def follow_session(self, request: Request) -> EventStream:
        """Stream a session's events."""
        visitor = await self._visitors.visitor(request)
        follow = partial(
            self._followers.session,
            visitor.app,
            request.path_params["session_id"],
            visitor.caller.identity,
            _place(request),
            encode=event_stream.by_offset,
        )
        return self._stream(visitor, follow)

    async def follow_all(self, request: Request) -> EventStream:
        """Stream the events of all the visitor's sessions."""
        visitor = await self._visitors.visitor(request)
        follow = partial(
            self._followers.user,
            visitor.app,
            visitor.caller.identity,
            _place(request),
            encode=event_stream.by_position,
        )
        return self._stream(visitor, follow)

    def _stream(self, visitor: Visitor, follow: event_stream.Follow) -> EventStream:
        checked = time.monotonic()

        async def write_if_signed_in(write: Write, batch: bytes) -> None:
            nonlocal checked
            # There is a beat when there is nothing else: who has signed out reads no further.
            if time.monotonic() - checked >= self._recheck / 2:
                await self._visitors.check(visitor)
                checked = time.monotonic()
            await write(batch)

        async def counted(write: Write) -> None:
            with self.readers.one((visitor.app, visitor.caller.identity)):
                await follow(partial(write_if_signed_in, write))

        return EventStream(counted)

    async def _body(self, request: Request, body: Body, kind: type[_M]) -> _M:
        given = await self._bodies.read_json(request, small=not body.large)
        return from_json(kind, given, omit=body.omit, required=body.required)


def _place(request: Request) -> int:
    """Return where a stream is to begin: a browser that comes back says what it has read."""
    last = request.headers.get("last-event-id", "")
    if last:
        return integer({"Last-Event-ID": last}, "Last-Event-ID")
    return integer(request.query_params, "after")


def _user(visitor: Visitor) -> dict[str, object]:
    return {
        "user": to_json(encoding.user_info(visitor.login.user)),
        "method": visitor.login.method,
    }

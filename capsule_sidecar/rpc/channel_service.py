"""ChannelService: what channel adapters call for the people they speak for."""

from __future__ import annotations

from capsule_protocol.v1 import channel_service_pb2 as pb
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.conversations import Caller, Conversations
from capsule_sidecar.runtime.followers import Followers
from capsule_sidecar.storage import encoding


class ChannelService:
    """People's sessions.

    Args:
        conversations: What people do.
        followers: How they look on.
    """

    def __init__(self, conversations: Conversations, followers: Followers) -> None:
        self._conversations = conversations
        self._followers = followers

    async def OpenSession(
        self, request: pb.OpenSessionRequest, context: Context
    ) -> pb.OpenSessionResponse:
        """Open a session."""
        session = await self._conversations.open_session(
            _caller(request.identity), request.request_id, request.title
        )
        return pb.OpenSessionResponse(session=encoding.session(session))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        """Return a page of sessions."""
        sessions, token, position = await self._conversations.list_sessions(
            _caller(request.identity), request.page_size, request.page_token, request.query
        )
        return pb.ListSessionsResponse(
            sessions=[encoding.session(entry) for entry in sessions],
            next_page_token=token,
            position=position,
        )

    async def GetTimeline(
        self, request: pb.GetTimelineRequest, context: Context
    ) -> pb.GetTimelineResponse:
        """Return a page of a timeline."""
        page = await self._conversations.timeline(
            _caller(request.identity), request.session_id, request.page_size, request.page_token
        )
        return convert.timeline(page)

    async def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: Context
    ) -> pb.UpdateSessionResponse:
        """Change the title."""
        session = await self._conversations.update_session(
            _caller(request.identity), request.request_id, request.session_id, request.title
        )
        return pb.UpdateSessionResponse(session=encoding.session(session))

    async def SendMessage(
        self, request: pb.SendMessageRequest, context: Context
    ) -> pb.SendMessageResponse:
        """Append a user message and queue its turn."""
        caller = _caller(request.identity)
        sent = await self._conversations.send_message(
            caller, request.request_id, request.session_id, request.text, request.attachments
        )
        return convert.sent(sent, request.text, caller.identity.partition(":")[0])

    async def StopInvocation(
        self, request: pb.StopInvocationRequest, context: Context
    ) -> pb.StopInvocationResponse:
        """Stop an invocation."""
        status = await self._conversations.stop(
            _caller(request.identity),
            request.request_id,
            request.session_id,
            request.invocation_id,
        )
        return pb.StopInvocationResponse(status=int(status))  # type: ignore[arg-type]  # enum values are ints on the wire

    async def SendAction(
        self, request: pb.SendActionRequest, context: Context
    ) -> pb.SendActionResponse:
        """Append a click and queue its action."""
        offset, invocation_id = await self._conversations.send_action(
            _caller(request.identity),
            request.request_id,
            request.session_id,
            request.name,
            request.block_id,
            request.payload_json,
        )
        return pb.SendActionResponse(offset=offset, invocation_id=invocation_id)

    async def AnswerPrompt(
        self, request: pb.AnswerPromptRequest, context: Context
    ) -> pb.AnswerPromptResponse:
        """Answer or dismiss a prompt."""
        caller = _caller(request.identity)
        answer = convert.persons_answer(request)
        return convert.answered(
            *await self._conversations.answer_prompt(
                caller, request.request_id, request.prompt_id, answer
            )
        )

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: Context
    ) -> pb.CloseSessionResponse:
        """Refuse new input and queue exit."""
        session = await self._conversations.close_session(
            _caller(request.identity), request.request_id, request.session_id
        )
        return pb.CloseSessionResponse(session=encoding.session(session))

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: Context
    ) -> pb.DeleteSessionResponse:
        """Remove a session."""
        await self._conversations.delete_session(
            _caller(request.identity), request.request_id, request.session_id
        )
        return pb.DeleteSessionResponse()

    async def FollowSession(self, request: pb.FollowSessionRequest, context: Context) -> None:
        """Follow a session; batches are encoded already."""
        caller = _caller(request.identity)
        person = await self._conversations.person(caller)
        await self._followers.session(
            person.app, request.session_id, caller.identity, request.after_offset, context.write
        )

    async def FollowChannel(self, request: pb.FollowChannelRequest, context: Context) -> None:
        """Follow all sessions of an identity, or of a channel; batches are encoded already."""
        after = request.after_position
        if request.identity:
            caller = _caller(request.identity)
            person = await self._conversations.person(caller)
            await self._followers.user(person.app, caller.identity, after, context.write)
            return
        if not request.channel:
            raise InvalidArgument("identity", "give an identity, or a channel")
        who = principal()
        who.require_channel(request.channel)
        app = await self._conversations.app(who.require_app())
        await self._followers.channel(app, request.channel, after, context.write)


def _caller(identity: str) -> Caller:
    who = principal()
    who.require_identity(identity)
    return Caller(who.require_app(), identity, trusted=who.grant.operator)

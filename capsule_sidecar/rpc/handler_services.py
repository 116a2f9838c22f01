"""HandlerService and SessionService: what handler processes call."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import handler_service_pb2 as handlers
from capsule_protocol.v1 import session_service_pb2 as sessions
from capsule_sidecar.batching import Outbox
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import DomainError, LimitExceeded
from capsule_sidecar.rpc.attach import Attachment
from capsule_sidecar.rpc.calls import CALLS, append_stream
from capsule_sidecar.rpc.errors import status_of
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.runtime.dispatcher import Dispatcher
from capsule_sidecar.storage.encoding import field_bytes

_Response = TypeVar("_Response")
_RESULTS = 0x0A  # field 1 of StreamReplyResponse


class HandlerService:
    """Attach and Beat.

    Args:
        dispatcher: Who gives out work.
        commands: What handlers may do.
        limits: The windows.
        timing: The beats.
    """

    def __init__(
        self, dispatcher: Dispatcher, commands: Commands, limits: Limits, timing: Timing
    ) -> None:
        self._dispatcher = dispatcher
        self._commands = commands
        self._limits = limits
        self._timing = timing

    async def Attach(self, _: object, context: Context) -> None:
        """Serve one Attach."""
        await Attachment(self._dispatcher, self._commands, self._limits, self._timing).run(context)

    async def Beat(self, request: handlers.BeatRequest, context: Context) -> handlers.BeatResponse:
        """Renew the leases of a process."""
        caller = principal()
        caller.require_handler()
        app = await self._dispatcher.app(caller.require_app())
        await self._dispatcher.beat_by_id(app, request.process_id.lower())
        term = Duration()
        term.FromTimedelta(timedelta(seconds=self._timing.lease_term))
        return handlers.BeatResponse(lease_term=term)


class SessionService:
    """What a handler does in a session, by unary calls and by StreamReply.

    Args:
        dispatcher: Knows the apps.
        commands: What handlers may do.
        limits: The sizes of batches.
    """

    def __init__(self, dispatcher: Dispatcher, commands: Commands, limits: Limits) -> None:
        self._dispatcher = dispatcher
        self._commands = commands
        self._limits = limits

    async def _call(self, name: str, request: Any, _: type[_Response]) -> _Response:
        caller = principal()
        caller.require_handler()
        app = await self._dispatcher.app(caller.require_app())
        call = CALLS[name]
        response: _Response = call.answer(await call.begin(self._commands, app, request))
        return response

    async def GetSession(
        self, request: sessions.GetSessionRequest, context: Context
    ) -> sessions.GetSessionResponse:
        """Return the invocation's session with its data."""
        return await self._call("get_session", request, sessions.GetSessionResponse)

    async def ListMessages(
        self, request: sessions.ListMessagesRequest, context: Context
    ) -> sessions.ListMessagesResponse:
        """Return a page of history."""
        return await self._call("list_messages", request, sessions.ListMessagesResponse)

    async def Reply(
        self, request: sessions.ReplyRequest, context: Context
    ) -> sessions.ReplyResponse:
        """Append one complete message."""
        return await self._call("reply", request, sessions.ReplyResponse)

    async def Notify(
        self, request: sessions.NotifyRequest, context: Context
    ) -> sessions.NotifyResponse:
        """Show a status line."""
        return await self._call("notify", request, sessions.NotifyResponse)

    async def OpenStream(
        self, request: sessions.OpenStreamRequest, context: Context
    ) -> sessions.OpenStreamResponse:
        """Begin a reply that streams."""
        return await self._call("open_stream", request, sessions.OpenStreamResponse)

    async def AppendStream(
        self, request: sessions.AppendStreamRequest, context: Context
    ) -> sessions.AppendStreamResponse:
        """Add text to an open stream."""
        return await self._call("append_stream", request, sessions.AppendStreamResponse)

    async def CloseStream(
        self, request: sessions.CloseStreamRequest, context: Context
    ) -> sessions.CloseStreamResponse:
        """Complete a stream."""
        return await self._call("close_stream", request, sessions.CloseStreamResponse)

    async def ShowBlock(
        self, request: sessions.ShowBlockRequest, context: Context
    ) -> sessions.ShowBlockResponse:
        """Show a block or change it in place."""
        return await self._call("show_block", request, sessions.ShowBlockResponse)

    async def ShowImage(
        self, request: sessions.ShowImageRequest, context: Context
    ) -> sessions.ShowImageResponse:
        """Show a file of the session as an image."""
        return await self._call("show_image", request, sessions.ShowImageResponse)

    async def PromptFile(
        self, request: sessions.PromptFileRequest, context: Context
    ) -> sessions.PromptFileResponse:
        """Ask a person for a file."""
        return await self._call("prompt_file", request, sessions.PromptFileResponse)

    async def PromptApproval(
        self, request: sessions.PromptApprovalRequest, context: Context
    ) -> sessions.PromptApprovalResponse:
        """Ask a person for yes or no."""
        return await self._call("prompt_approval", request, sessions.PromptApprovalResponse)

    async def PromptChoice(
        self, request: sessions.PromptChoiceRequest, context: Context
    ) -> sessions.PromptChoiceResponse:
        """Ask a person for one of several options."""
        return await self._call("prompt_choice", request, sessions.PromptChoiceResponse)

    async def ShowTask(
        self, request: sessions.ShowTaskRequest, context: Context
    ) -> sessions.ShowTaskResponse:
        """Show a task."""
        return await self._call("show_task", request, sessions.ShowTaskResponse)

    async def SetTitle(
        self, request: sessions.SetTitleRequest, context: Context
    ) -> sessions.SetTitleResponse:
        """Set the session's title."""
        return await self._call("set_title", request, sessions.SetTitleResponse)

    async def UpdateData(
        self, request: sessions.UpdateDataRequest, context: Context
    ) -> sessions.UpdateDataResponse:
        """Commit changes of the session's data."""
        return await self._call("update_data", request, sessions.UpdateDataResponse)

    async def StreamReply(self, _: object, context: Context) -> None:
        """Serve one StreamReply."""
        caller = principal()
        caller.require_handler()
        app = await self._dispatcher.app(caller.require_app())
        await _StreamReply(self._commands, app, self._limits).run(context)


class _StreamReply:
    """One StreamReply: frames in order, answers as they are ready."""

    def __init__(self, commands: Commands, app: int, limits: Limits) -> None:
        self._commands = commands
        self._app = app
        self._outbox = Outbox(max_bytes=limits.bytes_in_flight, batch_bytes=limits.batch_bytes)
        self._waiting = 0
        self._watched: set[str] = set()
        self._done = False

    async def run(self, context: Context) -> None:
        reader = asyncio.create_task(self._read(context), name="stream-reply-reader")
        try:
            while (batch := await self._outbox.drain()) is not None:
                await context.write(batch)
        finally:
            for stream_id in self._watched:
                self._commands.streams.watch(stream_id, None)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, context: Context) -> None:
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                for frame in request.frames:
                    self._frame(frame)
        except Exception as error:  # noqa: BLE001 - the guard's table decides what is told of it
            self._outbox.fail(error)
            return
        self._done = True
        self._finish()

    def _frame(self, frame: sessions.StreamReplyFrame) -> None:
        name = frame.WhichOneof("request")
        if name is None:
            return
        request = getattr(frame, name)
        stream_id = request.request_id if name == "open_stream" else request.stream_id
        try:
            if name == "append_stream":
                append_stream(self._commands, self._app, request, self._refuse)
                return
            future = CALLS[name].begin(self._commands, self._app, request)
        except DomainError as error:
            self._refuse(stream_id, error)
            return
        if name == "open_stream":
            self._commands.streams.watch(stream_id, self._durable)
            self._watched.add(stream_id)
        self._waiting += 1
        assert isinstance(future, asyncio.Future)
        future.add_done_callback(partial(self._answered, stream_id, name))

    def _refuse(self, stream_id: str, error: DomainError) -> None:
        self._put(sessions.StreamReplyResult(stream_id=stream_id, error=status_of(error)))

    def _answered(self, stream_id: str, name: str, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            result = sessions.StreamReplyResult(stream_id=stream_id)
            error = future.exception()
            if error is not None:
                result.error.CopyFrom(status_of(error))
            else:
                getattr(result, name).CopyFrom(CALLS[name].answer(future.result()))
                if name == "close_stream":
                    self._watched.discard(stream_id)
            self._put(result)
        self._finish()

    def _durable(self, stream_id: str, revision: int, position: int) -> None:
        place = sessions.StreamPlace(revision=revision, position=position)
        self._put(sessions.StreamReplyResult(stream_id=stream_id, durable=place))

    def _put(self, result: sessions.StreamReplyResult) -> None:
        if not self._outbox.put(field_bytes(_RESULTS, result.SerializeToString())):
            self._outbox.fail(LimitExceeded("outbox", 0, "the caller does not read its answers"))

    def _finish(self) -> None:
        if self._done and not self._waiting:
            self._outbox.finish()

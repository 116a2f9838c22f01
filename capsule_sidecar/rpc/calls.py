"""The requests of handlers: how each is begun and how it is answered.

One table serves both ways to call: a unary RPC awaits what `begin` returns, a command on an Attach
lets it be answered when it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from capsule_protocol.v1 import session_service_pb2 as pb
from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model.types import (
    ApprovalQuestion,
    ChoiceQuestion,
    FileQuestion,
    Question,
)
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.call import Call
from capsule_sidecar.rpc.state_calls import STATE_CALLS
from capsule_sidecar.rpc.task_calls import TASK_CALLS
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.runtime.live_stream import Refuse
from capsule_sidecar.runtime.stream_commands import Closed, StreamState
from capsule_sidecar.storage import encoding
from capsule_sidecar.storage.requests import Answer


def done(value: Any) -> asyncio.Future[Any]:
    """Return a future that has its result."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _get_session(commands: Commands, app: int, r: pb.GetSessionRequest) -> Awaitable[Any]:
    return commands.get_session(app, convert.lease(r.invocation_id, r.attempt))


def _list_messages(commands: Commands, app: int, r: pb.ListMessagesRequest) -> Awaitable[Any]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.list_messages(app, lease, r.page_size, r.page_token)


def _reply(commands: Commands, app: int, r: pb.ReplyRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.reply(app, lease, r.request_id, r.text, r.key)


def _notify(commands: Commands, app: int, r: pb.NotifyRequest) -> Awaitable[None]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.notify(app, lease, r.text, r.detail)


def _open_stream(commands: Commands, app: int, r: pb.OpenStreamRequest) -> Awaitable[StreamState]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.streams.open(app, lease, r.request_id, r.key)


def append_stream(
    commands: Commands,
    app: int,
    r: pb.AppendStreamRequest,
    refuse: Refuse | None = None,
) -> tuple[int, int]:
    """Take a delta; it is in effect when this returns, or `refuse` is told later that it is not."""
    return commands.streams.append(
        app,
        convert.lease(r.invocation_id, r.attempt),
        r.stream_id,
        r.text,
        revision=r.revision,
        position=r.position if r.HasField("position") else None,
        replace=r.replace,
        refuse=refuse,
    )


def _append_stream(commands: Commands, app: int, r: pb.AppendStreamRequest) -> Awaitable[Any]:
    return done(append_stream(commands, app, r))


def _close_stream(commands: Commands, app: int, r: pb.CloseStreamRequest) -> Awaitable[Closed]:
    return commands.streams.close(
        app,
        convert.lease(r.invocation_id, r.attempt),
        r.request_id,
        r.stream_id,
        length=r.length if r.HasField("length") else None,
        sha256=r.sha256,
        interrupted=r.interrupted,
    )


def _show_block(commands: Commands, app: int, r: pb.ShowBlockRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.show_block(app, lease, r.request_id, convert.block(r.block))


def _show_image(commands: Commands, app: int, r: pb.ShowImageRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.show_image(app, lease, r.request_id, r.file_id, r.alt, r.width)


def _prompt_file(commands: Commands, app: int, r: pb.PromptFileRequest) -> Awaitable[bytes]:
    return _ask(commands, app, r, FileQuestion(r.accept))


def _prompt_approval(commands: Commands, app: int, r: pb.PromptApprovalRequest) -> Awaitable[bytes]:
    return _ask(commands, app, r, ApprovalQuestion(r.approve_label, r.reject_label))


def _prompt_choice(commands: Commands, app: int, r: pb.PromptChoiceRequest) -> Awaitable[bytes]:
    return _ask(commands, app, r, ChoiceQuestion(tuple(r.options)))


def _ask(commands: Commands, app: int, r: Any, question: Question) -> Awaitable[bytes]:
    timeout = r.timeout.seconds + r.timeout.nanos / 1e9 if r.HasField("timeout") else None
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.prompting.ask(app, lease, r.request_id, r.message, timeout, question)


def _set_title(commands: Commands, app: int, r: pb.SetTitleRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.set_title(app, lease, r.request_id, r.title)


def _update_data(commands: Commands, app: int, r: pb.UpdateDataRequest) -> Awaitable[Answer]:
    lease = convert.lease(r.invocation_id, r.attempt)
    return commands.update_data(app, lease, r.request_id, convert.patch(r.patch))


def _opened(state: StreamState) -> pb.OpenStreamResponse:
    response = pb.OpenStreamResponse(
        stream_id=state.stream_id, revision=state.revision, position=state.position
    )
    if state.event is not None:
        response.message.CopyFrom(convert.message_of(state.event))
        response.position = len(response.message.text)
    return response


def _closed(closed: Closed) -> pb.CloseStreamResponse:
    response = pb.CloseStreamResponse(offset=closed.offset)
    if closed.event is not None:
        response.message.CopyFrom(convert.message_of(closed.event))
    return response


def _asked(response: Callable[..., Any], prompt: bytes) -> Any:
    return response(prompt=types_pb2.Prompt.FromString(prompt))


CALLS: dict[str, Call] = {
    "get_session": Call(
        _get_session,
        lambda found: pb.GetSessionResponse(session=encoding.session(found[0]), data_json=found[1]),
    ),
    "list_messages": Call(_list_messages, lambda found: convert.messages(*found)),
    "reply": Call(_reply, lambda a: pb.ReplyResponse(message_id=a.ids[0], offset=a.offset)),
    "notify": Call(_notify, lambda _: pb.NotifyResponse()),
    "open_stream": Call(_open_stream, _opened),
    "append_stream": Call(
        _append_stream,
        lambda place: pb.AppendStreamResponse(revision=place[0], position=place[1]),
    ),
    "close_stream": Call(_close_stream, _closed),
    "show_block": Call(
        _show_block, lambda a: pb.ShowBlockResponse(block_id=a.ids[0], offset=a.offset)
    ),
    "show_image": Call(
        _show_image, lambda a: pb.ShowImageResponse(block_id=a.ids[0], offset=a.offset)
    ),
    "prompt_file": Call(_prompt_file, partial(_asked, pb.PromptFileResponse)),
    "prompt_approval": Call(_prompt_approval, partial(_asked, pb.PromptApprovalResponse)),
    "prompt_choice": Call(_prompt_choice, partial(_asked, pb.PromptChoiceResponse)),
    "set_title": Call(_set_title, lambda a: pb.SetTitleResponse(offset=a.offset)),
    "update_data": Call(
        _update_data, lambda a: pb.UpdateDataResponse(update_time=encoding.timestamp(a.offset))
    ),
    **STATE_CALLS,
    **TASK_CALLS,
}

"""Events as bytes: the log holds the contract's own encoding.

What is on disk is what goes to a follower. A body (the event's `kind`) is made where the event is
thought of; the header (session, offset, position, time, place, invocation) is put before it when
the position is known. Protobuf merges fields in any order, so header and body are simply joined.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.model.types import (
    ApprovalQuestion,
    Block,
    ChoiceQuestion,
    File,
    FileQuestion,
    InvocationKind,
    InvocationStatus,
    PromptStatus,
    Question,
    Sender,
    Session,
    UserInfo,
)


def varint(number: int) -> bytes:
    """Return a non-negative number in protobuf's variable-length form."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field_bytes(tag: int, data: bytes) -> bytes:
    """Return a length-delimited field; `tag` is its encoded key byte (field number * 8 + 2)."""
    length = len(data)
    if length < 0x80:
        return bytes((tag, length)) + data
    return bytes((tag,)) + varint(length) + data


def session_prefix(session_key: str) -> bytes:
    """Return the part of the header that all events of a session share."""
    return field_bytes(0x0A, session_key.encode())


def invocation_suffix(invocation_key: str) -> bytes:
    """Return the part of the header that all events of an invocation share."""
    return field_bytes(0x3A, invocation_key.encode()) if invocation_key else b""


def time_field(milliseconds: int) -> bytes:
    """Return the header's time."""
    return field_bytes(0x22, _timestamp_bytes(milliseconds))


def event(
    prefix: bytes,
    offset: int,
    position: int,
    time: bytes,
    place: int,
    item_offset: int,
    suffix: bytes,
    body: bytes,
) -> bytes:
    """Return a whole encoded Event from its parts."""
    return b"".join(
        (
            prefix,
            b"\x10", varint(offset), b"\x18", varint(position), time,
            b"\x28", varint(place), b"\x30", varint(item_offset), suffix, body,
        )
    )  # fmt: skip


def is_history(message: types_pb2.Message) -> bool:
    """Whether a message takes part in what a handler gets of its session."""
    return bool(message.text or message.attachments)


def timestamp(milliseconds: int) -> Timestamp:
    """Return a time as protobuf has it."""
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def user_info(user: UserInfo) -> types_pb2.UserInfo:
    """Return a user as the contract has it."""
    return types_pb2.UserInfo(
        user_id=user.user_id, email=user.email, org_id=user.org_id, owner_id=user.owner_id
    )


def session(value: Session) -> types_pb2.Session:
    """Return a session as the contract has it."""
    return types_pb2.Session(
        session_id=value.session_id,
        app=value.app,
        user=user_info(value.user),
        channel=types_pb2.SessionChannel(type=value.channel),
        title=value.title,
        state=int(value.state),  # type: ignore[arg-type]  # enum values are ints on the wire
        create_time=timestamp(value.create_ms),
        head_offset=value.head,
        activity_position=value.activity,
    )


def message_added(
    message_id: str,
    sender: Sender,
    text: str,
    channel: str,
    create_ms: int,
    *,
    stream_id: str = "",
    interrupted: bool = False,
    files: Sequence[File] = (),
) -> bytes:
    """Return the body of a MessageAdded event, with the files that the message carries.

    The one event that there is most of, so it is joined from its fields rather than built as a
    message; a test holds it to what protobuf makes of the same.
    """
    message = b"".join(
        (
            field_bytes(0x0A, message_id.encode()),
            b"\x10\x01" if sender == Sender.USER else b"\x10\x02",
            field_bytes(0x1A, text.encode()) if text else b"",
            field_bytes(0x22, channel.encode()),
            field_bytes(0x2A, _timestamp_bytes(create_ms)),
            *(field_bytes(0x32, attachment(file).SerializeToString()) for file in files),
            b"\x38\x01" if interrupted else b"",
        )
    )
    added = field_bytes(0x0A, message)
    if stream_id:
        added += field_bytes(0x12, stream_id.encode())
    return b"\xaa\x01" + varint(len(added)) + added


@functools.lru_cache(maxsize=64)
def _timestamp_bytes(milliseconds: int) -> bytes:
    return timestamp(milliseconds).SerializeToString()


def session_opened(value: Session) -> bytes:
    """Return the body of a SessionOpened event."""
    return events_pb2.Event(
        session_opened=events_pb2.SessionOpened(session=session(value))
    ).SerializeToString()


def session_updated(title: str) -> bytes:
    """Return the body of a SessionUpdated event."""
    return events_pb2.Event(
        session_updated=events_pb2.SessionUpdated(title=title)
    ).SerializeToString()


SESSION_CLOSING = events_pb2.Event(session_closing=events_pb2.SessionClosing()).SerializeToString()
SESSION_CLOSED = events_pb2.Event(session_closed=events_pb2.SessionClosed()).SerializeToString()
SESSION_DELETED = events_pb2.Event(session_deleted=events_pb2.SessionDeleted()).SerializeToString()
STOP_REQUESTED = events_pb2.Event(stop_requested=events_pb2.StopRequested()).SerializeToString()


def stream_opened(stream_id: str, message_id: str) -> bytes:
    """Return the body of a StreamOpened event."""
    return events_pb2.Event(
        stream_opened=events_pb2.StreamOpened(stream_id=stream_id, message_id=message_id)
    ).SerializeToString()


def stream_withdrawn(stream_id: str) -> bytes:
    """Return the body of a StreamWithdrawn event."""
    return events_pb2.Event(
        stream_withdrawn=events_pb2.StreamWithdrawn(stream_id=stream_id)
    ).SerializeToString()


def block_shown(block: Block) -> bytes:
    """Return the body of a BlockShown event."""
    return events_pb2.Event(
        block_shown=events_pb2.BlockShown(
            block=types_pb2.Block(
                block_id=block.block_id, type=block.type, payload_json=block.payload_json
            )
        )
    ).SerializeToString()


def action_sent(name: str, block_id: str, payload_json: bytes) -> bytes:
    """Return the body of an ActionSent event."""
    return events_pb2.Event(
        action_sent=events_pb2.ActionSent(name=name, block_id=block_id, payload_json=payload_json)
    ).SerializeToString()


def prompt(
    key: str, message: str, question: Question, create_ms: int, expire_ms: int
) -> types_pb2.Prompt:
    """Return a prompt that is open, as the contract has it."""
    value = types_pb2.Prompt(
        prompt_id=key,
        message=message,
        create_time=timestamp(create_ms),
        expire_time=timestamp(expire_ms),
        status=int(PromptStatus.OPEN),  # type: ignore[arg-type]  # enum values are ints on the wire
    )
    match question:
        case FileQuestion():
            value.file.accept = question.accept
            value.file.SetInParent()
        case ApprovalQuestion():
            value.approval.approve_label = question.approve_label
            value.approval.reject_label = question.reject_label
        case ChoiceQuestion():
            value.choice.options.extend(question.options)
    return value


def attachment(file: File) -> types_pb2.Attachment:
    """Return a file as messages and answers carry it; its address is made when it is read."""
    return types_pb2.Attachment(
        file_id=file.file_id, name=file.name, content_type=file.content_type, size=file.size
    )


def prompt_opened(value: types_pb2.Prompt) -> bytes:
    """Return the body of a PromptOpened event."""
    return events_pb2.Event(prompt_opened=events_pb2.PromptOpened(prompt=value)).SerializeToString()


def prompt_ended(value: types_pb2.Prompt) -> bytes:
    """Return the body of a PromptEnded event."""
    return events_pb2.Event(prompt_ended=events_pb2.PromptEnded(prompt=value)).SerializeToString()


def task_submitted(task_id: str, name: str) -> bytes:
    """Return the body of a TaskSubmitted event."""
    submitted = events_pb2.TaskSubmitted(task_id=task_id, name=name)
    return events_pb2.Event(task_submitted=submitted).SerializeToString()


def invocation_ended(
    kind: InvocationKind,
    status: InvocationStatus,
    reason: str,
    reference_id: str,
    attempts: int,
) -> bytes:
    """Return the body of an InvocationEnded event."""
    return events_pb2.Event(
        invocation_ended=events_pb2.InvocationEnded(
            kind=int(kind),  # type: ignore[arg-type]  # enum values are ints on the wire
            status=int(status),  # type: ignore[arg-type]
            reason=reason,
            reference_id=reference_id,
            attempts=attempts,
        )
    ).SerializeToString()


def made(data: bytes) -> tuple[int, tuple[str, ...]]:
    """Return the item's offset, and the ids that the request was answered, of an encoded Event."""
    value = events_pb2.Event.FromString(data)
    match value.WhichOneof("kind"):
        case "message_added":
            added = value.message_added
            ids = (added.message.message_id, added.stream_id)
            return value.item_offset, ids if added.stream_id else ids[:1]
        case "block_shown":
            return value.item_offset, (value.block_shown.block.block_id,)
        case "prompt_opened":
            return value.item_offset, (value.prompt_opened.prompt.prompt_id,)
        case "task_submitted":
            return value.offset, (value.task_submitted.task_id,)
        case _:
            return value.item_offset, ()

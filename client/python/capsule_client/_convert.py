"""From the wire's messages to the values that handlers see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from capsule_client import _json
from capsule_client._files import TurnFiles
from capsule_client.types import Action, Attachment, FileUpload, Message, UserInfo
from capsule_protocol.v1 import handler_service_pb2, types_pb2


def user(source: types_pb2.Session | handler_service_pb2.Invocation) -> UserInfo | None:
    """Returns the person of a session, or of an invocation without one; None where it has none."""
    if not source.HasField("user"):
        return None
    person = source.user
    return UserInfo(person.user_id, person.email, person.org_id)


def message(source: types_pb2.Message, files: TurnFiles) -> Message:
    """Returns a message, whose attachments are read through `files`."""
    at = source.create_time
    return Message(
        text=source.text,
        sender="user" if source.sender == types_pb2.SENDER_USER else "app",
        channel_type=source.channel_type,
        timestamp=at.seconds + at.nanos / 1e9,
        attachments=tuple(_attachment(one, files) for one in source.attachments),
        id=source.message_id,
        interrupted=source.interrupted,
    )


def messages(source: Iterable[types_pb2.Message], files: TurnFiles) -> Sequence[Message]:
    """Returns messages in the same order, as `message` does."""
    return tuple(message(one, files) for one in source)


def action(source: handler_service_pb2.Action) -> Action:
    """Returns a click."""
    return Action(source.name, source.block_id, _json.decode(source.payload_json))


def upload(source: types_pb2.Attachment, files: TurnFiles, path: str | None = None) -> FileUpload:
    """Returns the file that answered a prompt, and where it was written."""
    made = FileUpload(
        source.name, source.content_type, source.url, source.size, source.file_id, path
    )
    return files.lead(made)


def _attachment(source: types_pb2.Attachment, files: TurnFiles) -> Attachment:
    return files.lead(
        Attachment(source.name, source.content_type, source.url, source.size, source.file_id)
    )

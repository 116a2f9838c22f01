"""From the model to messages and back, where it takes more than naming the fields."""

from __future__ import annotations

from collections.abc import Sequence

from capsule_protocol.v1 import (
    channel_service_pb2,
    events_pb2,
    handler_service_pb2,
    session_service_pb2,
    types_pb2,
)
from capsule_sidecar.model.cron import check_schedule
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.types import (
    Answer,
    Block,
    DataPatch,
    Declarations,
    ItemKind,
    Lease,
    Outcome,
    OutcomeStatus,
    Schedule,
    Sender,
)
from capsule_sidecar.model.web_calls import (
    Endpoint,
    WebResponse,
    check_data_name,
    check_endpoint,
)
from capsule_sidecar.runtime.collections import check_declared
from capsule_sidecar.runtime.conversations import Sent, Timeline
from capsule_sidecar.runtime.processes import Hello
from capsule_sidecar.storage import encoding, prompts, session_reads

PROTOCOL_VERSION = "1"
_MAX_INT = (1 << 31) - 1
# Data handlers, and endpoints, of one process.
_MAX_DECLARED = 1_000


def lease(invocation_id: str, attempt: int) -> Lease:
    """Return who writes.

    Raises:
        InvalidArgument: The invocation is not named, or the attempt is not positive.
    """
    if not invocation_id:
        raise InvalidArgument("invocation_id", "is required")
    if attempt < 1:
        raise InvalidArgument("attempt", "counts from 1")
    return Lease(invocation_id, attempt)


def lease_if_any(invocation_id: str, attempt: int) -> Lease | None:
    """Return who asks, of what an app may also ask without an invocation; None: the app itself.

    Raises:
        InvalidArgument: One of the two is malformed, or not given.
    """
    return lease(invocation_id, attempt) if invocation_id or attempt else None


def patch(value: types_pb2.DataPatch) -> DataPatch:
    """Return changes of session data."""
    return DataPatch(dict(value.set_json), tuple(value.delete_keys))


def block(value: types_pb2.Block) -> Block:
    """Return a block."""
    return Block(value.type, value.payload_json, value.block_id)


def declarations(value: handler_service_pb2.Declarations) -> Declarations:
    """Return what a process handles.

    Raises:
        InvalidArgument: A name, a path, a collection or a schedule is malformed, or there are too
            many.
    """
    for name in value.actions:
        if not 0 < len(name) <= 128:
            raise InvalidArgument("hello.declarations.actions", "names have 1 to 128 characters")
    data = {entry.name: entry.authenticated for entry in value.data}
    endpoints = tuple(
        Endpoint(entry.method, entry.path, entry.authenticated) for entry in value.endpoints
    )
    field = "hello.declarations.data"
    for index, entry in enumerate(value.data):
        check_data_name(entry.name, f"{field}[{index}].name")
    if len(data) != len(value.data) or len(data) > _MAX_DECLARED:
        raise InvalidArgument(field, f"must be at most {_MAX_DECLARED}, each name once")
    field = "hello.declarations.endpoints"
    for index, endpoint in enumerate(endpoints):
        check_endpoint(endpoint, f"{field}[{index}]")
    if len({e.route for e in endpoints}) != len(endpoints) or len(endpoints) > _MAX_DECLARED:
        raise InvalidArgument(field, f"must be at most {_MAX_DECLARED}, each route once")
    field = "hello.declarations.tasks"
    for index, name in enumerate(value.tasks):
        if not 0 < len(name) <= 128:
            raise InvalidArgument(f"{field}[{index}]", "has 1 to 128 characters")
    if len(set(value.tasks)) != len(value.tasks) or len(value.tasks) > _MAX_DECLARED:
        raise InvalidArgument(field, f"must be at most {_MAX_DECLARED}, each name once")
    return Declarations(
        value.message,
        value.enter,
        value.exit,
        frozenset(value.actions),
        data,
        {endpoint.route: endpoint for endpoint in endpoints},
        check_declared(
            [(e.collection.name, e.collection.scope, e.indexes) for e in value.collections],
            "hello.declarations.collections",
        ),
        frozenset(value.tasks),
        _schedules(value.schedules),
    )


def _schedules(
    values: Sequence[handler_service_pb2.ScheduleDeclaration],
) -> tuple[Schedule, ...]:
    field = "hello.declarations.schedules"
    if len({entry.name for entry in values}) != len(values) or len(values) > _MAX_DECLARED:
        raise InvalidArgument(field, f"must be at most {_MAX_DECLARED}, each name once")
    found = tuple(Schedule(e.name, e.cron, e.timezone or "UTC") for e in values)
    for index, schedule in enumerate(found):
        # It is a row's key, and PostgreSQL holds no NUL.
        if not 0 < len(schedule.name) <= 128 or "\0" in schedule.name:
            raise InvalidArgument(f"{field}[{index}].name", "has 1 to 128 characters, and no NUL")
        check_schedule(schedule.cron, schedule.timezone, f"{field}[{index}]")
    return found


def hello(value: handler_service_pb2.Hello, app: str, maximum: int, default: int) -> Hello:
    """Return a process's introduction, for the app of its token.

    Raises:
        InvalidArgument: A field is malformed.
    """
    if not 0 <= value.concurrency <= maximum:
        raise InvalidArgument("hello.concurrency", f"must be 1 to {maximum}, or 0 for {default}")
    return Hello(
        app,
        value.process_id.lower(),
        value.client_name[:100],
        value.client_version[:100],
        declarations(value.declarations),
        value.concurrency or default,
        tuple(Lease(entry.invocation_id, entry.attempt) for entry in value.leases),
    )


def outcome(value: handler_service_pb2.Outcome) -> Outcome:
    """Return how a handler ended.

    Raises:
        InvalidArgument: The status is not given, or a field is malformed.
    """
    try:
        status = OutcomeStatus(value.status)
    except ValueError:
        raise InvalidArgument("outcome.status", "is required") from None
    reference = value.reference_id
    if len(reference) > 64 or not all(
        c.isascii() and (c.isalnum() or c in "-_") for c in reference
    ):
        reference = ""  # not worth losing an outcome for: the sidecar makes one
    return Outcome(
        lease(value.invocation_id, value.attempt),
        status,
        patch(value.data),
        reference,
        value.error_type.replace("\0", "")[:200],  # PostgreSQL holds no NUL: as above
        _response(value.response) if value.HasField("response") else None,
        value.result_json,
        value.no_retry,
    )


def _response(value: handler_service_pb2.WebResponse) -> WebResponse:
    headers = tuple((entry.name, entry.value) for entry in value.headers)
    return WebResponse(value.status, headers, value.body)


def answered(prompt: bytes, accepted: bool) -> channel_service_pb2.AnswerPromptResponse:
    """Return the answer to a person's answer."""
    return channel_service_pb2.AnswerPromptResponse(
        prompt=types_pb2.Prompt.FromString(prompt), accepted=accepted
    )


def persons_answer(value: channel_service_pb2.AnswerPromptRequest) -> Answer:
    """Return a person's answer to a prompt.

    Raises:
        InvalidArgument: There is none, or none of any prompt.
    """
    match value.WhichOneof("answer"):
        case "file_id":
            return Answer(file_id=value.file_id)
        case "approved":
            return Answer(approved=value.approved)
        case "option":
            if value.option < 0:
                raise InvalidArgument("option", "must not be negative")
            return Answer(option=value.option)
        case "dismissed" if value.dismissed:
            return Answer()
    raise InvalidArgument("answer", "give file_id, approved, option, or dismissed as true")


def message_of(event: bytes) -> types_pb2.Message:
    """Return the message of an encoded MessageAdded event."""
    return events_pb2.Event.FromString(event).message_added.message


def sent(value: Sent, text: str, channel: str) -> channel_service_pb2.SendMessageResponse:
    """Return the answer to a user message."""
    if value.event is not None:
        return channel_service_pb2.SendMessageResponse(
            message=message_of(value.event), offset=value.offset, invocation_id=value.invocation_id
        )
    return channel_service_pb2.SendMessageResponse(
        message=types_pb2.Message(
            message_id=value.message_id,
            sender=int(Sender.USER),  # type: ignore[arg-type]  # enum values are ints on the wire
            text=text,
            channel_type=channel,
            create_time=encoding.timestamp(value.create_ms),
        ),
        offset=value.offset,
        invocation_id=value.invocation_id,
    )


def messages(
    items: list[session_reads.Item], token: str
) -> session_service_pb2.ListMessagesResponse:
    """Return a page of history; what has neither text nor file takes no part."""
    found = (message_of(item.event) for item in items)
    return session_service_pb2.ListMessagesResponse(
        messages=[m for m in found if encoding.is_history(m)], next_page_token=token
    )


def timeline(value: Timeline) -> channel_service_pb2.GetTimelineResponse:
    """Return a page of a timeline."""
    return channel_service_pb2.GetTimelineResponse(
        items=[_item(entry) for entry in value.items],
        next_page_token=value.next_token,
        session=encoding.session(value.session),
        offset=value.session.head,
        position=value.position,
        pending=[
            channel_service_pb2.PendingInvocation(
                invocation_id=entry.invocation_id,
                kind=int(entry.kind),  # type: ignore[arg-type]
                status=int(entry.status),  # type: ignore[arg-type]
                place=entry.place,
            )
            for entry in value.pending
        ],
    )


def _item(entry: session_reads.Item) -> channel_service_pb2.TimelineItem:
    event = events_pb2.Event.FromString(entry.event)
    item = channel_service_pb2.TimelineItem(
        place=entry.place, offset=entry.offset, invocation_id=event.invocation_id
    )
    match entry.kind:
        case ItemKind.MESSAGE:
            item.message.CopyFrom(event.message_added.message)
        case ItemKind.STREAM:
            item.stream.CopyFrom(event.stream_opened)
        case ItemKind.BLOCK:
            item.block.CopyFrom(event.block_shown.block)
        case ItemKind.ENDED:
            item.ended.CopyFrom(event.invocation_ended)
        case ItemKind.PROMPT:
            item.prompt.CopyFrom(prompts.prompt_of(event))
    return item

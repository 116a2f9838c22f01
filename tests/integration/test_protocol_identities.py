"""Every RPC of every service against every wrong identity, generated from the descriptors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from capsule_protocol.v1 import (
    admin_service_pb2,
    channel_service_pb2,
    collection_service_pb2,
    file_service_pb2,
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    task_service_pb2,
)
from tests.support.files import Mover
from tests.support.sidecar import Person, refusal_of, request_id, running_sidecar
from tests.support.turns import Desk, refusal_of_status, turn_on, work_of
from tests.support.work import acknowledged

APPS = {
    "support": {
        "token": "support-handler-token",
        "channels": {
            "terminal": {"token": "support-terminal-token"},
            "telegram": {"token": "support-telegram-token"},
        },
    },
    "other": {
        "token": "other-handler-token",
        "channels": {"terminal": {"token": "other-terminal-token"}},
    },
}
SERVICES = {
    file.services_by_name[name].full_name: file.services_by_name[name]
    for file, name in (
        (handler_service_pb2.DESCRIPTOR, "HandlerService"),
        (session_service_pb2.DESCRIPTOR, "SessionService"),
        (state_service_pb2.DESCRIPTOR, "StateService"),
        (collection_service_pb2.DESCRIPTOR, "CollectionService"),
        (task_service_pb2.DESCRIPTOR, "TaskService"),
        (channel_service_pb2.DESCRIPTOR, "ChannelService"),
        (file_service_pb2.DESCRIPTOR, "FileService"),
        (admin_service_pb2.DESCRIPTOR, "AdminService"),
    )
}
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method
    for service in SERVICES.values()
    for method in service.methods
}

# Who an RPC is for. A new RPC without a row here fails.
HANDLER, OWN_SESSION, OWN_PERSON, OPERATOR = "handler", "own session", "own person", "operator"
ROWS: dict[str, str] = {
    "HandlerService/Attach": HANDLER,
    "HandlerService/Beat": HANDLER,
    "SessionService/GetSession": HANDLER,
    "SessionService/ListMessages": HANDLER,
    "SessionService/Reply": HANDLER,
    "SessionService/Notify": HANDLER,
    "SessionService/OpenStream": HANDLER,
    "SessionService/AppendStream": HANDLER,
    "SessionService/CloseStream": HANDLER,
    "SessionService/StreamReply": HANDLER,
    "SessionService/ShowBlock": HANDLER,
    "SessionService/ShowImage": HANDLER,
    "SessionService/ShowTask": HANDLER,
    "SessionService/PromptFile": HANDLER,
    "SessionService/PromptApproval": HANDLER,
    "SessionService/PromptChoice": HANDLER,
    "SessionService/SetTitle": HANDLER,
    "SessionService/UpdateData": HANDLER,
    "StateService/GetValue": HANDLER,
    "StateService/SetValue": HANDLER,
    "StateService/DeleteValue": HANDLER,
    "StateService/IncrementValue": HANDLER,
    "StateService/ListValues": HANDLER,
    "CollectionService/Insert": HANDLER,
    "CollectionService/Find": HANDLER,
    "CollectionService/Update": HANDLER,
    "CollectionService/Delete": HANDLER,
    "CollectionService/Count": HANDLER,
    "CollectionService/Distinct": HANDLER,
    "TaskService/SubmitTask": HANDLER,
    "TaskService/GetTask": HANDLER,
    "TaskService/ListTasks": HANDLER,
    "TaskService/CancelTasks": HANDLER,
    "TaskService/ReportProgress": HANDLER,
    "ChannelService/OpenSession": OWN_PERSON,
    "ChannelService/ListSessions": OWN_PERSON,
    "ChannelService/FollowChannel": OWN_PERSON,
    "ChannelService/GetTimeline": OWN_SESSION,
    "ChannelService/UpdateSession": OWN_SESSION,
    "ChannelService/SendMessage": OWN_SESSION,
    "ChannelService/FollowSession": OWN_SESSION,
    "ChannelService/StopInvocation": OWN_SESSION,
    "ChannelService/SendAction": OWN_SESSION,
    "ChannelService/AnswerPrompt": OWN_SESSION,
    "ChannelService/CloseSession": OWN_SESSION,
    "ChannelService/DeleteSession": OWN_SESSION,
    # As a person; test_files_grpc.py has their other callers, handlers.
    "FileService/UploadFile": OWN_PERSON,
    "FileService/DownloadFile": OWN_SESSION,
    "FileService/GetFile": OWN_SESSION,
    "AdminService/GetStatus": OPERATOR,
    "AdminService/ListApps": OPERATOR,
    "AdminService/ListInvocations": OPERATOR,
    "AdminService/GetInvocation": OPERATOR,
    "AdminService/RetryInvocation": OPERATOR,
    "AdminService/ListAppSessions": OPERATOR,
    "AdminService/GetAppSession": OPERATOR,
    "AdminService/AdvanceClock": OPERATOR,
}

UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
ABSENT = (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
NO_TASK = (grpc.StatusCode.FAILED_PRECONDITION, "NO_TASK")
CLOSED = (grpc.StatusCode.FAILED_PRECONDITION, "STREAM_CLOSED")
# What gRPC says where a call ends while it is written to: of how it ended there is nothing then.
LOST = "Internal error from Core"
EVERY = (HANDLER, OWN_SESSION, OWN_PERSON, OPERATOR)
PEOPLE = (OWN_SESSION, OWN_PERSON)


@dataclass(frozen=True)
class Wrong:
    """A wrong identity: what it sends, and what each kind of RPC answers it.

    Attributes:
        answers: The refusal by the kind of RPC; kinds that are not named may be called.
        but: Other refusals of single RPCs.
    """

    token: str | None
    answers: dict[str, tuple[grpc.StatusCode, str]]
    app: str | None = "support"
    identity: str = "terminal:ada"
    but: dict[str, tuple[grpc.StatusCode, str]] | None = None


WRONG = {
    "no token": Wrong(None, dict.fromkeys(EVERY, UNAUTHENTICATED)),
    "an unknown token": Wrong("guess", dict.fromkeys(EVERY, UNAUTHENTICATED)),
    "another app's handler": Wrong("other-handler-token", dict.fromkeys(EVERY, DENIED)),
    "another app's channel": Wrong("other-terminal-token", dict.fromkeys(EVERY, DENIED)),
    "another app's handler that names no app": Wrong(
        "other-handler-token",
        {HANDLER: ABSENT, OPERATOR: DENIED, OWN_SESSION: DENIED, OWN_PERSON: DENIED},
        app=None,
        # A stream of another app is a stream that is not open.
        but={"HandlerService/Attach": DENIED, "SessionService/AppendStream": CLOSED},
    ),
    "another app's channel that names no app": Wrong(
        "other-terminal-token",
        {HANDLER: DENIED, OPERATOR: DENIED, OWN_SESSION: ABSENT},
        app=None,
    ),
    "a channel": Wrong("support-terminal-token", {HANDLER: DENIED, OPERATOR: DENIED}),
    "a handler": Wrong(
        "support-handler-token", {**dict.fromkeys(PEOPLE, DENIED), OPERATOR: DENIED}
    ),
    "another channel": Wrong("support-telegram-token", dict.fromkeys(EVERY, DENIED)),
    "an identity of another channel": Wrong(
        "support-terminal-token", dict.fromkeys(PEOPLE, DENIED), identity="telegram:ada"
    ),
    "another person": Wrong(
        "support-terminal-token", {OWN_SESSION: ABSENT}, identity="terminal:eve"
    ),
    "an app that is not declared": Wrong("", dict.fromkeys(EVERY, DENIED), app="undeclared"),
}


@dataclass(frozen=True)
class Held:
    """What a turn holds: an open stream, an open prompt, a file; and what failed; by their ids."""

    stream_id: str
    prompt_id: str
    file_id: str
    failed_id: str
    task_id: str


@asynccontextmanager
async def busy(home: Path) -> AsyncIterator[tuple[Desk, Held]]:
    """Runs a sidecar with two apps, and a turn with what it holds."""
    async with running_sidecar(home, apps=APPS, test_clock=True) as running:
        async with turn_on(running) as desk, Person(running, app="other") as neighbour:
            await neighbour.open()
            image = await Mover(desk).up(b"GIF89a", "dot.gif", "image/gif")
            asked = await desk.command("prompt_approval", message="really?")
            failed = await fail(desk)
            task = await desk.command("submit_task", name="nobodys")
            yield (
                desk,
                Held(
                    await desk.open(), asked.prompt.prompt_id, image.file_id, failed, task.task_id
                ),
            )


async def fail(desk: Desk) -> str:
    """Lets a turn of another session of the same person fail; returns its invocation."""
    sent = await desk.person.say(await desk.person.open(), "fail")
    work = await work_of(desk.handler, sent.invocation_id)
    await desk.handler.finish(work, handler_service_pb2.OUTCOME_STATUS_FAILED)
    await acknowledged(desk.handler, work)
    return str(sent.invocation_id)


def request_for(name: str, desk: Desk, held: Held, identity: str) -> Any:
    """Returns a request that the rightful caller could send."""
    turn: dict[str, Any] = {"invocation_id": desk.work.invocation_id, "attempt": desk.work.attempt}
    if name == "HandlerService/Attach":
        hello = handler_service_pb2.Hello(
            app=desk.handler.app, protocol_version="1", process_id=request_id()
        )
        frame = handler_service_pb2.HandlerFrame(hello=hello)
        return handler_service_pb2.AttachRequest(frames=[frame])
    if name == "SessionService/StreamReply":
        opening = session_service_pb2.OpenStreamRequest(request_id=request_id(), **turn)
        return session_service_pb2.StreamReplyRequest(
            frames=[session_service_pb2.StreamReplyFrame(open_stream=opening)]
        )
    given: dict[str, Any] = turn | {
        "request_id": request_id(),
        "identity": identity,
        "session_id": desk.session,
        "stream_id": held.stream_id,
        "prompt_id": held.prompt_id,
        "file_id": held.file_id,
        "approved": True,
        "message": "really?",
        "options": ["yes", "no"],
        "caller": file_service_pb2.FileCaller(identity=identity),
        "process_id": desk.handler.process_id,
        "text": "text",
        "title": "title",
        "name": "pick",
        "app": "support",
        "scope": state_service_pb2.SCOPE_USER,
        "key": "n",
        "value_json": b"1",
        "collection": collection_service_pb2.Collection(
            name="things", scope=state_service_pb2.SCOPE_USER
        ),
        "documents_json": [b"{}"],
        "update_json": b'{"a":1}',
        "path": "a",
    }
    message = GetMessageClass(METHODS[name].input_type)
    known = message.DESCRIPTOR.fields_by_name
    made = message(**{key: value for key, value in given.items() if key in known})
    if name == "ChannelService/AnswerPrompt":
        made.ClearField("file_id")  # the answer is one of them
        made.approved = True  # type: ignore[attr-defined]
    if name in ("SessionService/ShowTask", "TaskService/GetTask"):
        made.task_id = held.task_id  # type: ignore[attr-defined]
    if name == "TaskService/CancelTasks":
        made.filter.name = "nobodys"  # type: ignore[attr-defined]
    if name == "AdminService/RetryInvocation":
        made.invocation_id = held.failed_id  # type: ignore[attr-defined]
    if name == "AdminService/AdvanceClock":
        made.by.seconds = 1  # type: ignore[attr-defined]
    if name == "FileService/UploadFile":
        made.header.caller.identity = identity  # type: ignore[attr-defined]
        made.header.request_id = request_id()  # type: ignore[attr-defined]
    if name in ("SessionService/Reply", "SessionService/OpenStream"):
        made.ClearField("key")
    if name == "SessionService/ShowBlock":
        made.block.type = "card"  # type: ignore[attr-defined]  # one of many generated classes
    return made


async def refusal(
    desk: Desk, name: str, request: Any, metadata: Any, tries: int = 3
) -> tuple[Any, str]:
    """Calls and returns how it was refused; (None, "") where it was not."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel = desk.handler.channel
    kind: Any = channel.unary_unary
    if method.client_streaming and not method.server_streaming:
        kind = channel.stream_unary
    elif method.server_streaming:
        kind = channel.stream_stream if method.client_streaming else channel.unary_stream
    answer = GetMessageClass(method.output_type)
    stub = kind(
        path, request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=answer.FromString,
    )  # fmt: skip
    try:
        if not method.server_streaming:
            given = iter([request]) if method.client_streaming else request
            await stub(given, metadata=metadata, timeout=20)
            return None, ""
        first = stub(metadata=metadata) if method.client_streaming else None
        call = first if first is not None else stub(request, metadata=metadata)
        try:
            if first is not None:
                with suppress(grpc.aio.AioRpcError):  # reading tells why
                    await first.write(request)
            read = await asyncio.wait_for(call.read(), 20)
            if name == "SessionService/StreamReply" and read.results[0].HasField("error"):
                found = refusal_of_status(read.results[0].error)
                return found.code, found.reason
        finally:
            call.cancel()
    except grpc.aio.AioRpcError as error:
        if error.details() == LOST and tries > 1:
            return await refusal(desk, name, request, metadata, tries - 1)
        refused = refusal_of(error)
        return refused.code, refused.reason
    return None, ""


def test_every_rpc_has_a_row() -> None:
    assert ROWS.keys() == METHODS.keys()


@pytest.mark.parametrize("who", WRONG)
async def test_every_rpc_refuses(tmp_path: Path, who: str) -> None:
    wrong = WRONG[who]
    async with busy(tmp_path) as (desk, held):
        before = await _state(desk)
        metadata = [("capsule-app", wrong.app)] if wrong.app is not None else []
        if wrong.token is not None:
            token = wrong.token or desk.running.token
            metadata.append(("authorization", f"Bearer {token}"))
        expected = {
            name: (wrong.but or {}).get(name, wrong.answers[row])
            for name, row in ROWS.items()
            if row in wrong.answers
        }
        found = {
            name: await refusal(desk, name, request_for(name, desk, held, wrong.identity), metadata)
            for name in expected
        }
        assert found == expected
        assert await _state(desk) == before, "a refused call left a trace"


async def test_every_rpc_lets_its_rightful_caller_in(tmp_path: Path) -> None:
    """So that the matrix cannot pass by refusing everything, or a malformed request."""
    tokens = {HANDLER: "support-handler-token", OPERATOR: ""} | dict.fromkeys(
        PEOPLE, "support-terminal-token"
    )
    last = [
        f"ChannelService/{name}" for name in ("StopInvocation", "CloseSession", "DeleteSession")
    ]
    async with busy(tmp_path) as (desk, held):
        for name in [*sorted(ROWS.keys() - set(last)), *last]:
            token = tokens[ROWS[name]] or desk.running.token
            metadata = (("authorization", f"Bearer {token}"), ("capsule-app", "support"))
            request = request_for(name, desk, held, "terminal:ada")
            # A turn is no task, but this is said to its rightful caller alone.
            reports = name == "TaskService/ReportProgress"
            expected = NO_TASK if reports else (None, "")
            assert await refusal(desk, name, request, metadata) == expected, name


async def test_another_person_sees_nothing_of_mine(tmp_path: Path) -> None:
    async with busy(tmp_path) as (desk, _), Person(desk.running, "terminal:eve") as eve:
        assert not (await eve.call("ListSessions")).sessions
        request = channel_service_pb2.FollowChannelRequest(identity="terminal:eve")
        call = eve.stub.FollowChannel(request, metadata=eve.metadata)
        frames = (await asyncio.wait_for(call.read(), 20)).frames
        call.cancel()
        assert [frame.WhichOneof("frame") for frame in frames] == ["snapshot"]
        assert not frames[0].snapshot.streams


async def _state(desk: Desk) -> list[str]:
    found: list[str] = []
    for app in ("support", "other"):
        async with Person(desk.running, app=app) as person:
            page = await person.call("ListSessions")
            found.extend(f"{s.session_id} {s.title} {s.head_offset}" for s in page.sessions)
    return found

"""Fencing: what a superseded attempt and an ended invocation may still do, which is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import (
    collection_service_pb2,
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    types_pb2,
)
from tests.support.sidecar import (
    BareHandler,
    Person,
    Running,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.turns import SERVICES, request_type, stub_of
from tests.support.work import acknowledged, beaten, ended, of, reply, say

Invocation = handler_service_pb2.Invocation


def requests(work: Invocation, stream_id: str) -> dict[str, Any]:
    """Returns one request of each method that names an invocation."""
    block = types_pb2.Block(type="card", payload_json=b"{}")
    patch = types_pb2.DataPatch(set_json={"zombie": b"true"})
    scope = state_service_pb2.SCOPE_APP
    things = collection_service_pb2.Collection(name="things", scope=scope)
    zombies: dict[str, Any] = {"scope": scope, "key": "zombie"}
    fields: dict[str, dict[str, Any]] = {
        "GetSession": {},
        "ListMessages": {},
        "Reply": {"request_id": request_id(), "text": "from a zombie"},
        "Notify": {"text": "from a zombie"},
        "OpenStream": {"request_id": request_id()},
        "AppendStream": {"stream_id": stream_id, "text": "from a zombie"},
        "CloseStream": {"request_id": request_id(), "stream_id": stream_id},
        "ShowBlock": {"request_id": request_id(), "block": block},
        "ShowImage": {"request_id": request_id(), "file_id": "fil_of_a_zombie"},
        "ShowTask": {"request_id": request_id(), "task_id": "tsk_of_a_zombie"},
        "SubmitTask": {"request_id": request_id(), "name": "zombie"},
        "GetTask": {"task_id": "tsk_of_a_zombie"},
        "ListTasks": {},
        "CancelTasks": {"request_id": request_id(), "filter": {"name": "zombie"}},
        "ReportProgress": {"progress": 0.5},
        "PromptFile": {"request_id": request_id(), "message": "from a zombie"},
        "PromptApproval": {"request_id": request_id(), "message": "from a zombie"},
        "PromptChoice": {"request_id": request_id(), "message": "?", "options": ["zombie"]},
        "SetTitle": {"request_id": request_id(), "title": "from a zombie"},
        "UpdateData": {"request_id": request_id(), "patch": patch},
        "GetValue": {"scope": scope, "key": "zombie"},
        "SetValue": zombies | {"value_json": b"1", "request_id": request_id()},
        "DeleteValue": zombies | {"request_id": request_id()},
        "IncrementValue": zombies | {"request_id": request_id()},
        "ListValues": {"scope": scope},
        "Insert": {"request_id": request_id(), "collection": things, "documents_json": [b"{}"]},
        "Find": {"collection": things},
        "Update": {
            "request_id": request_id(), "collection": things, "update_json": b'{"a":1}',
            "upsert": True,
        },
        "Delete": {"request_id": request_id(), "collection": things},
        "Count": {"collection": things},
        "Distinct": {"collection": things, "path": "a"},
    }  # fmt: skip
    return {method: request_type(method)(**of(work, **given)) for method, given in fields.items()}


async def call(handler: BareHandler, request: Any) -> None:
    """Makes a call and reads all of its answer."""
    method = type(request).__name__.removesuffix("Request")
    answer = stub_of(handler, method)(request, metadata=handler.metadata, timeout=15)
    if method == "Find":
        async for _ in answer:
            pass
    else:
        await answer


async def open_stream(handler: BareHandler, work: Invocation, text: str) -> str:
    """Opens a stream with some text; returns its id."""
    stream_id = request_id()
    opening = session_service_pb2.OpenStreamRequest(**of(work, request_id=stream_id))
    await handler.sessions.OpenStream(opening, metadata=handler.metadata, timeout=15)
    delta = session_service_pb2.AppendStreamRequest(**of(work, stream_id=stream_id, text=text))
    await handler.sessions.AppendStream(delta, metadata=handler.metadata, timeout=15)
    return stream_id


async def superseded(running: Running, ada: Person, handler: BareHandler) -> tuple[str, Any, Any]:
    """Has a turn delivered twice; returns the session and both deliveries."""
    await handler.attach()
    session = await ada.open()
    await ada.say(session, "hello")
    first = await handler.work()
    await handler.finish(first, handler_service_pb2.OUTCOME_STATUS_RELEASED)
    second = await handler.work(2)
    assert (second.invocation_id, second.attempt) == (first.invocation_id, 2)
    return session, first, second


def test_the_requests_are_all_that_name_an_invocation() -> None:
    named = set(requests(Invocation(), ""))
    assert named == {
        method.name
        for name, module in SERVICES.items()
        for method in module.DESCRIPTOR.services_by_name[name].methods
    } - {"StreamReply"}


async def test_a_superseded_attempt_is_refused_in_every_call_and_writes_nothing(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, first, second = await superseded(running, ada, handler)
            stream_id = await open_stream(handler, second, "from the living")
            async with await ada.follow(session) as follow:
                head = (await follow.live()).offset
                for method, request in requests(first, stream_id).items():
                    with refused(grpc.StatusCode.FAILED_PRECONDITION, "SUPERSEDED") as refusal:
                        await call(handler, request)
                    assert "superseded" in refusal.message or method == "AppendStream", method
                offset = await say(handler, second, "the living goes on")
                await follow.sees("message_added", 2)
                assert follow.events[-1].offset == offset == head + 1
                transients = [f for f in follow.frames if f.WhichOneof("frame") == "transient"]
                assert "zombie" not in str(transients)
            await handler.finish(second)
            await acknowledged(handler, second)
        assert await ada.texts(session) == ["hello", "from the living", "the living goes on"]


async def test_a_command_of_a_superseded_attempt_is_refused_likewise(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, first, _ = await superseded(running, ada, handler)
            result = await handler.result(await handler.command(reply=reply(first, "zombie")))
            assert result.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
            assert "SUPERSEDED" in str(result.error.details)
        assert await ada.texts(session) == ["hello"]


async def test_deltas_of_a_superseded_attempt_are_refused_once_and_shown_to_nobody(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            await ada.say(session, "hello")
            first = await handler.work()
            stream_id = await open_stream(handler, first, "begun")
            await handler.finish(first, handler_service_pb2.OUTCOME_STATUS_RELEASED)
            second = await handler.work(2)
            for _ in range(3):
                delta = session_service_pb2.AppendStreamRequest(
                    **of(first, stream_id=stream_id, text="zombie")
                )
                command = handler_service_pb2.Command(append_stream=delta)
                await handler.send(handler_service_pb2.HandlerFrame(command=command))
            await say(handler, second, "afresh")
            await beaten(handler)
            refusals = [
                frame.stream_refused
                for frame in handler.frames
                if frame.WhichOneof("frame") == "stream_refused"
            ]
            assert [refusal.stream_id for refusal in refusals] == [stream_id]
            assert refusals[0].error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
            await handler.finish(second)
            await acknowledged(handler, second)
        assert await ada.texts(session) == ["hello", "afresh"]


async def test_the_outcome_of_a_superseded_attempt_is_acknowledged_and_applies_nothing(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            session, first, second = await superseded(running, ada, handler)
            patch = types_pb2.DataPatch(set_json={"zombie": b"true"})
            for status in (
                handler_service_pb2.OUTCOME_STATUS_COMPLETED,
                handler_service_pb2.OUTCOME_STATUS_RELEASED,
            ):
                acks = [f.outcome_ack for f in handler.frames if f.HasField("outcome_ack")]
                await handler.finish(first, status, data=patch)
                ack = (await handler.gets("outcome_ack", len(acks) + 1)).outcome_ack
                assert (ack.invocation_id, ack.attempt) == (first.invocation_id, 1)
                assert ack.status == types_pb2.INVOCATION_STATUS_RUNNING
            await say(handler, second, "still mine")
            get = session_service_pb2.GetSessionRequest(**of(second))
            found = await handler.sessions.GetSession(get, metadata=handler.metadata, timeout=15)
            assert found.data_json == b"{}"
        assert await ada.texts(session) == ["hello", "still mine"]


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED"])
async def test_after_the_end_every_call_is_refused_and_a_repeated_outcome_changes_nothing(
    tmp_path: Path, outcome: str
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            async with await ada.follow(session) as follow:
                await ada.say(session, "hello")
                work = await handler.work()
                stream_id = await open_stream(handler, work, "left open")
                status = handler_service_pb2.OutcomeStatus.Value(f"OUTCOME_STATUS_{outcome}")
                await handler.finish(work, status)
                await acknowledged(handler, work)
                end = await ended(follow, work.invocation_id)
                assert end.status == types_pb2.InvocationStatus.Value(
                    f"INVOCATION_STATUS_{outcome}"
                )
                for method, request in requests(work, stream_id).items():
                    reason = "STREAM_CLOSED" if method == "AppendStream" else "INVOCATION_ENDED"
                    with refused(grpc.StatusCode.FAILED_PRECONDITION, reason):
                        await call(handler, request)
                await handler.finish(work, handler_service_pb2.OUTCOME_STATUS_FAILED)
                ack = (await handler.gets("outcome_ack", 2)).outcome_ack
                assert ack.status == end.status
                head = len(follow.events)
                await ada.say(session, "next")
                await follow.sees("message_added", 3)
                assert len(follow.events) == head + 1
                await ended(follow, work.invocation_id)  # the only one
        assert await ada.texts(session) == ["hello", "left open", "next"]


async def test_an_invocation_that_never_was_is_not_found_and_its_outcome_acknowledged(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler, BareHandler(running, app="other") as foreign:
            await handler.attach()
            await foreign.attach()
            await ada.say(await ada.open(), "hello")
            work = await handler.work()
            for process, lease in ((handler, Invocation(invocation_id="no", attempt=1)),
                                   (foreign, work)):  # fmt: skip
                for request in requests(lease, request_id()).values():
                    name = type(request).__name__.removesuffix("Request")
                    if name == "AppendStream":
                        continue  # a stream that is not open is all it can know
                    with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                        await call(process, request)
                await process.finish(lease)
                await acknowledged(process, lease)
            await say(handler, work, "unmoved")

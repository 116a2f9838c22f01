"""Request ids: every writing RPC, sent again, answers what it answered first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import (
    admin_service_pb2,
    channel_service_pb2,
    collection_service_pb2,
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    task_service_pb2,
    types_pb2,
)
from tests.support.files import Mover
from tests.support.sidecar import Person, Running, refused, request_id, running_sidecar
from tests.support.turns import SERVICES, Desk, service_of, turn, turn_on, work_of
from tests.support.work import acknowledged

CALLED = SERVICES | {"ChannelService": channel_service_pb2, "AdminService": admin_service_pb2}
WRITING = {
    (service, method.name)
    for service, module in CALLED.items()
    for method in module.DESCRIPTOR.services_by_name[service].methods
    if "request_id" in method.input_type.fields_by_name
}

MALFORMED = {
    "missing": "",
    "a word": "again",
    "too short": "0190d9a2-7b6e-7c4e-9f00-000000000",
    "white space for digits": "0190d9a2-7b6e-7c4e-9f00-00000000    ",
    "dashes elsewhere": "0190-d9a27b6e-7c4e-9f00-000000000000",
    "underscores": "0190d9a27b6e7c4e9f00_00000000001",
    "a sign": "+190d9a27b6e7c4e9f00000000000001",
}


@dataclass
class Sent:
    """A request that was answered, and one with its id and other content."""

    service: str
    method: str
    request: Any
    other: Any
    answer: Any = None


async def call(running: Running, sent: Sent, request: Any) -> Any:
    """Makes a call on a line of its own, so that it works after a restart too."""
    async with Person(running) as person:
        path = f"/capsule_protocol.v1.{sent.service}/{sent.method}"
        module: Any = CALLED[sent.service]
        stub: Any = person.channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(module, f"{sent.method}Response").FromString,
        )
        return await stub(request, metadata=person.metadata, timeout=20)


async def requests_of(desk: Desk) -> list[Sent]:
    """Returns a request of every writing RPC, in an order in which all of them succeed."""
    found: list[Sent] = []

    def handler(command: str, change: dict[str, Any], **fields: Any) -> None:
        request = desk.request(command, **fields)
        method = type(request).__name__.removesuffix("Request")
        other = type(request).FromString(request.SerializeToString())
        other.MergeFrom(type(request)(**change))
        found.append(Sent(service_of(method), method, request, other))

    def person(method: str, change: dict[str, Any], **fields: Any) -> None:
        kind: Any = getattr(channel_service_pb2, f"{method}Request")
        request = kind(request_id=request_id(), identity="terminal:ada", **fields)
        other = kind.FromString(request.SerializeToString())
        other.MergeFrom(kind(**change))
        found.append(Sent("ChannelService", method, request, other))

    stream, ada = request_id(), desk.person
    handler("reply", {"text": "other"}, text="one")
    handler("open_stream", {"key": "other"}, request_id=stream)
    handler("close_stream", {"interrupted": True}, stream_id=stream)
    block = types_pb2.Block(type="card", payload_json=b'{"a":1}')
    handler("show_block", {"block": types_pb2.Block(type="form")}, block=block)
    image = await Mover(desk).up(b"GIF89a", "dot.gif", "image/gif")
    handler("show_image", {"alt": "other"}, file_id=image.file_id)
    handler("prompt_file", {"message": "other"}, message="one")
    handler("prompt_approval", {"message": "other"}, message="one")
    handler("prompt_choice", {"message": "other"}, message="one", options=["a", "b"])
    handler("set_title", {"title": "other"}, title="one")
    patch = types_pb2.DataPatch(set_json={"a": b"1"})
    more = types_pb2.DataPatch(set_json={"b": b"1"})
    handler("update_data", {"patch": more}, patch=patch)
    submitted = await desk.command("submit_task", name="any")
    handler("submit_task", {"name": "other"}, name="one")
    handler("show_task", {"message": "other"}, task_id=submitted.task_id)
    which, others = (task_service_pb2.TaskFilter(name=name) for name in ("one", "other"))
    handler("cancel_tasks", {"filter": others}, filter=which)
    user = state_service_pb2.SCOPE_USER
    things = collection_service_pb2.Collection(name="things", scope=user)
    many: dict[str, Any] = {"many": True}
    handler("set_value", {"value_json": b"2"}, scope=user, key="a", value_json=b"1")
    handler("increment_value", {"by_json": b"2"}, scope=user, key="a")
    handler("delete_value", {"key": "b"}, scope=user, key="a")
    handler("insert", {"documents_json": [b"{}"]}, collection=things, documents_json=[b'{"n":1}'])
    handler("update", many, collection=things, update_json=b'{"$inc":{"n":1}}')
    handler("delete", many, collection=things)
    person("OpenSession", {"title": "other"}, title="one")
    named, written, clicked = [await ada.open() for _ in range(3)]
    closed, deleted = [await ada.open() for _ in range(2)]
    person("UpdateSession", {"title": "other"}, session_id=named, title="one")
    person("SendMessage", {"text": "other"}, session_id=written, text="one")
    person("SendAction", {"name": "other"}, session_id=clicked, name="pick")
    asked = (await desk.command("prompt_approval", message="really?")).prompt.prompt_id
    person("AnswerPrompt", {"dismissed": True}, prompt_id=asked, approved=True)
    queued = await ada.say(desk.session, "queued")
    person(
        "StopInvocation", {"invocation_id": "another"},
        session_id=desk.session, invocation_id=queued.invocation_id,
    )  # fmt: skip
    person("CloseSession", {"session_id": named}, session_id=closed)
    person("DeleteSession", {"session_id": named}, session_id=deleted)
    retry = admin_service_pb2.RetryInvocationRequest(
        app="support", invocation_id=await _failed(desk), request_id=request_id()
    )
    other = admin_service_pb2.RetryInvocationRequest(
        app="support", invocation_id="another", request_id=retry.request_id
    )
    found.append(Sent("AdminService", "RetryInvocation", retry, other))
    return found


async def test_a_retry_gives_the_first_answer_and_changes_nothing_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        everything = await requests_of(desk)
        assert {(sent.service, sent.method) for sent in everything} == WRITING
        for sent in everything:
            sent.answer = await call(desk.running, sent, sent.request)
        before = await _heads(desk.person)
        for sent in everything:
            again = await call(desk.running, sent, sent.request)
            assert _stable(again) == _stable(sent.answer), sent.method
        assert await _heads(desk.person) == before
        for work in (desk.work, (await _others(desk))):
            await desk.handler.finish(work)
        await desk.finish()
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        before = await _heads(ada)
        for sent in everything:
            again = await call(running, sent, sent.request)
            assert _stable(again) == _stable(sent.answer), sent.method
            with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
                await call(running, sent, sent.other)
        assert await _heads(ada) == before


async def test_an_id_with_other_content_is_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for sent in await requests_of(desk):
            await call(desk.running, sent, sent.request)
            before = await _heads(desk.person)
            with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
                await call(desk.running, sent, sent.other)
            assert await _heads(desk.person) == before, sent.method


async def test_a_refused_request_may_be_sent_again_with_its_id(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream, retried = await desk.open(), request_id()
        await desk.delta(stream, "text")
        found = await desk.close(stream, request_id=retried, length=9)
        assert found.reason == "DIGEST_MISMATCH"
        closed = await desk.close(stream, request_id=retried, length=4)
        assert closed.message.text == "text"


async def test_ids_are_of_one_method_and_one_person(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, Person(desk.running, "terminal:eve") as eve:
        shared = request_id()
        mine = await desk.person.call("OpenSession", request_id=shared)
        hers = await eve.call("OpenSession", request_id=shared)
        assert mine.session.session_id != hers.session.session_id
        session = mine.session.session_id
        await desk.person.say(session, "hello", request_id=shared)
        await desk.command("reply", text="hi", request_id=shared)
        assert (await desk.command("set_title", title="t", request_id=shared)).offset


async def test_retries_that_race_are_done_once(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        same = request_id()
        answers = await asyncio.gather(
            *(desk.unary("reply", text="once", request_id=same) for _ in range(20))
        )
        assert len({(answer.message_id, answer.offset) for answer in answers}) == 1
        assert await desk.person.texts(desk.session) == ["hello", "once"]


@pytest.mark.parametrize("how", MALFORMED)
async def test_every_writing_rpc_names_a_request_id_that_is_malformed(
    tmp_path: Path, how: str
) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        for sent in await requests_of(desk):
            sent.request.request_id = MALFORMED[how]
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
                await call(running, sent, sent.request)
            assert found.fields == ["request_id"], sent.method


async def _heads(person: Person) -> dict[str, tuple[int, str]]:
    page = await person.call("ListSessions", page_size=200)
    return {s.session_id: (s.head_offset, s.title) for s in page.sessions}


async def _others(desk: Desk) -> Any:
    """Returns the work of the message that `requests_of` sent."""
    page = await desk.person.call("ListSessions", page_size=200)
    for session in page.sessions:
        timeline = await desk.person.call("GetTimeline", session_id=session.session_id)
        for pending in timeline.pending:
            if pending.invocation_id != desk.work.invocation_id:
                return await work_of(desk.handler, pending.invocation_id)
    raise AssertionError("no other work")


async def _failed(desk: Desk) -> str:
    """Lets a turn of a session of its own fail; returns its invocation."""
    session = await desk.person.open()
    sent = await desk.person.say(session, "fails")
    work = await work_of(desk.handler, sent.invocation_id)
    await desk.handler.finish(work, handler_service_pb2.OUTCOME_STATUS_FAILED)
    await acknowledged(desk.handler, work)
    return str(sent.invocation_id)


def _stable(answer: Any) -> Any:
    """Returns an answer without what may move on: much is told as it is now."""
    if isinstance(answer, session_service_pb2.OpenStreamResponse):
        return answer.stream_id
    if "prompt" in answer.DESCRIPTOR.fields_by_name:
        return answer.prompt.prompt_id
    if "session" in answer.DESCRIPTOR.fields_by_name:
        answer.session.ClearField("head_offset")
    return answer

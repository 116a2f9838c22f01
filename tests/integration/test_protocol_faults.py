"""What is no refusal: a fault of the sidecar, a Hello that does not fit, health and reflection."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from capsule_protocol.v1 import channel_service_pb2, handler_service_pb2, session_service_pb2
from capsule_sidecar.rpc.server import SERVICES
from capsule_sidecar.storage import log, log_reads, session_reads
from tests.support.sidecar import (
    BareHandler,
    Person,
    Refusal,
    Running,
    refusal_of,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.turns import turn

SECRET = "a path, a password: /home/ada hunter2"


def broken(*_: object, **__: object) -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("form", ["unary", "command"])
async def test_a_fault_of_a_writing_call_tells_a_reference_and_nothing_else(
    tmp_path: Path,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with turn(tmp_path) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(log, "reply", broken)
            found = await desk.answer(form, "reply", text="hi")
        _is_internal(found, caplog)
        assert not isinstance(await desk.answer(form, "reply", text="again"), Refusal)
        assert await desk.person.texts(desk.session) == ["hello", "again"]


async def test_a_fault_of_a_reading_call_tells_a_reference_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with turn(tmp_path) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(session_reads, "timeline", broken)
            for form in ("unary", "command"):
                _is_internal(await desk.answer(form, "list_messages"), caplog)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await desk.person.timeline(desk.session)
        _is_internal(refusal_of(error.value), caplog)
        with monkeypatch.context() as patch:
            patch.setattr(log_reads, "events_after", broken)
            call = desk.person.stub.FollowSession(
                channel_service_pb2.FollowSessionRequest(
                    identity="terminal:ada", session_id=desk.session
                ),
                metadata=desk.person.metadata,
            )
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.read()
        _is_internal(refusal_of(error.value), caplog)


async def test_a_fault_of_one_call_does_not_fail_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with turn(tmp_path) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(log, "set_title", broken)
            tags = [
                await desk.send("set_title", title="x")
                if number == 5
                else await desk.send("reply", text=f"{number}")
                for number in range(10)
            ]
            results = [await desk.handler.result(tag) for tag in tags]
        kinds = [result.WhichOneof("result") for result in results]
        assert kinds == ["reply"] * 5 + ["error"] + ["reply"] * 4
        said = await desk.person.texts(desk.session)
        assert said == ["hello", *(str(number) for number in range(10) if number != 5)]


def _is_internal(found: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(found, Refusal)
    assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert found.metadata.keys() == {"reference_id"}
    reference = found.metadata["reference_id"]
    assert reference in found.message
    assert SECRET not in found.message
    errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.exc_info]
    assert any(reference in record.getMessage() for record in errors), "the log has it"


@pytest.mark.parametrize(
    ("hello", "metadata_app", "code", "reason", "field"),
    [
        ({"protocol_version": "2"}, "support", "FAILED_PRECONDITION", "INCOMPATIBLE_VERSION", ""),
        ({"protocol_version": ""}, "support", "FAILED_PRECONDITION", "INCOMPATIBLE_VERSION", ""),
        ({"process_id": "x"}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "process_id"),
        ({"process_id": ""}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "process_id"),
        ({"concurrency": -1}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "concurrency"),
        ({"concurrency": 1001}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "concurrency"),
        ({"app": "other"}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "app"),
        ({"app": ""}, "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "app"),
        ({"app": ""}, "", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "app"),
        ({"app": "No Name"}, "", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "app"),
        ({"app": "a" * 64}, "", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "app"),
        (
            {"declarations": handler_service_pb2.Declarations(actions=[""])},
            "support", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "declarations.actions",
        ),
    ],
)  # fmt: skip
async def test_a_hello_that_does_not_fit_is_refused_by_its_field(
    tmp_path: Path, hello: dict[str, Any], metadata_app: str, code: str, reason: str, field: str
) -> None:
    async with running_sidecar(tmp_path) as running:
        with refused(grpc.StatusCode[code], reason) as found:
            await _attach(running, metadata_app, hello)
        assert found.fields == ([f"hello.{field}"] if field else [])
        if not field:
            assert "upgrade" in found.message


async def test_a_declared_app_only_may_be_named_where_apps_are_declared(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, apps={"support": {}}) as running:
        for app in ("", "undeclared"):
            with refused(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"):
                await _attach(running, app, {"app": "undeclared"})
        welcome = await _attach(running, "", {"app": "support"})
        assert welcome.protocol_version == "1"


@pytest.mark.parametrize(
    "frames",
    [[], [handler_service_pb2.HandlerFrame()],
     [handler_service_pb2.HandlerFrame(beat=handler_service_pb2.Beat(number=1))]],
    ids=["nothing", "an unknown frame", "a beat"],
)  # fmt: skip
async def test_an_attach_begins_with_a_hello(
    tmp_path: Path, frames: list[handler_service_pb2.HandlerFrame]
) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running) as handler:
        call = handler.handlers.Attach(metadata=handler.metadata)
        await call.write(handler_service_pb2.AttachRequest(frames=frames))
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
            await call.read()
        assert found.fields == ["frames"]


async def test_a_call_must_name_its_app_where_the_token_is_the_homes(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        bare = tuple(pair for pair in ada.metadata if pair[0] != "capsule-app")
        for app in ((), (("capsule-app", "No Name"),)):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
                await ada.stub.ListSessions(
                    channel_service_pb2.ListSessionsRequest(identity="terminal:ada"),
                    metadata=bare + app,
                )
            assert found.fields == ["capsule-app"]
        async with BareHandler(running) as handler:
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
                request = session_service_pb2.GetSessionRequest(invocation_id="i", attempt=1)
                await handler.sessions.GetSession(request, metadata=bare)


async def test_health_and_reflection_answer_without_a_token(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        health: Any = health_pb2_grpc.HealthStub(ada.channel)
        for name in ("", *SERVICES):
            status = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert status.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        channel: Any = ada.channel  # the types of reflection know blocking channels only
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        assert {service.name for service in listed} >= set(SERVICES)
        for name in SERVICES:
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            await call.write(request)
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
        call.cancel()


async def _attach(running: Running, app: str, hello: dict[str, Any]) -> handler_service_pb2.Welcome:
    async with BareHandler(running) as handler:
        metadata = [("authorization", f"Bearer {running.token}")]
        if app:
            metadata.append(("capsule-app", app))
        call = handler.handlers.Attach(metadata=metadata)
        given: dict[str, Any] = {"app": "support", "protocol_version": "1"}
        given |= {"process_id": request_id()} | hello
        frame = handler_service_pb2.HandlerFrame(hello=handler_service_pb2.Hello(**given))
        await call.write(handler_service_pb2.AttachRequest(frames=[frame]))
        frames = (await call.read()).frames
        call.cancel()
        welcome: handler_service_pb2.Welcome = frames[0].welcome
        return welcome

"""A turn in progress: a person has written, a bare handler holds the work, and both can go on."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from capsule_protocol.v1 import (
    collection_service_pb2,
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    task_service_pb2,
)
from tests.support.eventually import eventually
from tests.support.sidecar import (
    BareHandler,
    Person,
    Refusal,
    Running,
    refusal_of,
    request_id,
    running_sidecar,
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def method_name(command: str) -> str:
    """Returns the RPC of a command: `OpenStream` for `open_stream`."""
    return "".join(part.capitalize() for part in command.split("_"))


# What handlers call by commands too: the name of the service, and its messages.
SERVICES: dict[str, Any] = {
    "SessionService": session_service_pb2,
    "StateService": state_service_pb2,
    "CollectionService": collection_service_pb2,
    "TaskService": task_service_pb2,
}


def service_of(method: str) -> str:
    """Returns the service that has a method: `StateService` for `GetValue`."""
    for name, module in SERVICES.items():
        if method in module.DESCRIPTOR.services_by_name[name].methods_by_name:
            return name
    raise AssertionError(f"no service has {method}")


def stub_of(handler: BareHandler, method: str) -> Any:
    """Returns a handler's stub of a method."""
    stubs = {
        "SessionService": handler.sessions,
        "StateService": handler.state,
        "CollectionService": handler.collections,
        "TaskService": handler.tasks,
    }
    return getattr(stubs[service_of(method)], method)


def request_type(method: str) -> Any:
    """Returns the request's class of a method."""
    return getattr(SERVICES[service_of(method)], f"{method}Request")


def refusal_of_status(status: status_pb2.Status) -> Refusal:
    """Reads an error that travels inside a message."""
    found = Refusal(_CODES[status.code], message=status.message)
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "capsule.dev"
            found.reason, found.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            found.fields = [violation.field for violation in bad.field_violations]
    return found


@dataclass
class Desk:
    """What a handler has in its hands during a turn."""

    running: Running
    person: Person
    handler: BareHandler
    session: str
    work: handler_service_pb2.Invocation

    def request(self, command: str, /, **fields: Any) -> Any:
        """Returns a request of this turn, with a new request id where it takes one."""
        kind = request_type(method_name(command))
        given = {"invocation_id": self.work.invocation_id, "attempt": self.work.attempt} | fields
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            given.setdefault("request_id", request_id())
        return kind(**given)

    async def unary(self, name: str, /, **fields: Any) -> Any:
        """Calls by a unary RPC; raises AioRpcError."""
        method = stub_of(self.handler, method_name(name))
        return await method(
            self.request(name, **fields), metadata=self.handler.metadata, timeout=20
        )

    async def send(self, name: str, /, **fields: Any) -> int:
        """Sends a command and returns its tag."""
        return await self.handler.command(**{name: self.request(name, **fields)})

    async def delta(self, stream_id: str, text: str, **fields: Any) -> None:
        """Sends text as a command without a tag."""
        append = self.request("append_stream", stream_id=stream_id, text=text, **fields)
        command = handler_service_pb2.Command(append_stream=append)
        await self.handler.send(handler_service_pb2.HandlerFrame(command=command))

    async def command(self, name: str, /, **fields: Any) -> Any:
        """Calls by a command; returns the answer, or the Refusal."""
        result = await self.handler.result(await self.send(name, **fields))
        kind = result.WhichOneof("result")
        if kind == "error":
            return refusal_of_status(result.error)
        assert kind == name, result
        return getattr(result, name)

    async def answer(self, form: str, name: str, /, **fields: Any) -> Any:
        """Calls by `unary` or `command`; returns the answer, or the Refusal."""
        if form == "command":
            return await self.command(name, **fields)
        try:
            return await self.unary(name, **fields)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)

    async def open(self, **fields: Any) -> str:
        """Opens a stream and returns its id."""
        opened = await self.command("open_stream", **fields)
        assert isinstance(opened, session_service_pb2.OpenStreamResponse), opened
        return opened.stream_id

    async def close(self, stream_id: str, text: str | None = None, **fields: Any) -> Any:
        """Closes a stream, checked against a text where one is given."""
        if text is not None:
            fields |= {"length": len(text), "sha256": hashlib.sha256(text.encode()).digest()}
        return await self.command("close_stream", stream_id=stream_id, **fields)

    async def finish(self, **fields: Any) -> None:
        """Completes the turn and waits until that is acknowledged."""
        await self.handler.finish(self.work, **fields)
        await eventually(self._acknowledged, timeout=15, message="the outcome is acknowledged")

    def _acknowledged(self) -> bool:
        return any(
            frame.outcome_ack.invocation_id == self.work.invocation_id
            for frame in self.handler.frames
        )

    async def next_turn(self, text: str) -> Desk:
        """Sends another message and returns its turn when the handler has it."""
        sent = await self.person.say(self.session, text)
        return Desk(
            self.running, self.person, self.handler, self.session,
            await work_of(self.handler, sent.invocation_id),
        )  # fmt: skip

    def acks(self, stream_id: str) -> list[tuple[int, int]]:
        """Returns the durable places of a stream that were acknowledged, in order."""
        return [
            (frame.stream_ack.revision, frame.stream_ack.position)
            for frame in self.handler.frames
            if frame.stream_ack.stream_id == stream_id
        ]

    def refused(self, stream_id: str) -> list[Refusal]:
        """Returns the refusals of a stream's untagged text."""
        return [
            refusal_of_status(frame.stream_refused.error)
            for frame in self.handler.frames
            if frame.stream_refused.stream_id == stream_id
        ]


async def work_of(handler: BareHandler, invocation_id: str) -> handler_service_pb2.Invocation:
    """Waits until the handler has an invocation, and returns its newest delivery."""

    def found() -> list[handler_service_pb2.Invocation]:
        return [
            frame.invocation
            for frame in handler.frames
            if frame.invocation.invocation_id == invocation_id
        ]

    works = await eventually(found, timeout=15, message=f"work {invocation_id}")
    return works[-1]


@asynccontextmanager
async def turn(home: Path, text: str = "hello", **settings: Any) -> AsyncIterator[Desk]:
    """Runs a sidecar, a person `terminal:ada` and a handler that holds her turn."""
    async with running_sidecar(home, **settings) as running, turn_on(running, text) as desk:
        yield desk


@asynccontextmanager
async def turn_on(running: Running, text: str = "hello") -> AsyncIterator[Desk]:
    """Begins a turn on a sidecar that runs."""
    async with Person(running) as person, BareHandler(running) as handler:
        await handler.attach()
        session = await person.open()
        sent = await person.say(session, text)
        work = await work_of(handler, sent.invocation_id)
        yield Desk(running, person, handler, session, work)

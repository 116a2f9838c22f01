"""Values and documents in data and endpoint requests: of who asks, by the request's own id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx

from capsule_protocol.v1 import collection_service_pb2, handler_service_pb2, state_service_pb2
from tests.support.sidecar import BareHandler, Running, refused, request_id, running_sidecar
from tests.support.turns import request_type, stub_of

SESSION, USER = state_service_pb2.SCOPE_SESSION, state_service_pb2.SCOPE_USER
OWNER, APP = state_service_pb2.SCOPE_OWNER, state_service_pb2.SCOPE_APP


@dataclass
class Asked:
    """A data request that a bare handler holds."""

    handler: BareHandler
    work: handler_service_pb2.Invocation
    answer: asyncio.Task[httpx.Response]

    async def call(self, method: str, **fields: Any) -> Any:
        """Calls for the request."""
        kind = request_type(method)
        given = {"invocation_id": self.work.invocation_id, "attempt": 1} | fields
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            given.setdefault("request_id", request_id())
        stub = stub_of(self.handler, method)
        return await stub(kind(**given), metadata=self.handler.metadata, timeout=15)

    async def end(self) -> None:
        """Answers the request."""
        await self.handler.finish(self.work)
        assert (await self.answer).status_code == 204


@asynccontextmanager
async def visitor(running: Running, *, guest: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """Gives a browser, signed in as a guest of its own or not at all."""
    address = f"{running.http}/apps/support"
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as http:
        if guest:
            assert (await http.post("/auth/guest")).is_success
        yield http


@asynccontextmanager
async def attached(running: Running) -> AsyncIterator[BareHandler]:
    """Attaches a handler of `/data/held`."""
    async with BareHandler(running) as handler:
        held = handler_service_pb2.DataDeclaration(name="held")
        await handler.attach(declarations=handler_service_pb2.Declarations(data=[held]))
        yield handler


async def ask(handler: BareHandler, http: httpx.AsyncClient, count: int) -> Asked:
    """Has a browser ask; the count-th request that the handler was given."""
    answer = asyncio.create_task(http.get("/data/held"))
    return Asked(handler, await handler.work(count), answer)


async def test_values_and_documents_are_of_who_asks(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, attached(running) as handler:
        async with visitor(running) as mine, visitor(running) as theirs:
            first = await ask(handler, mine, 1)
            for scope in (USER, OWNER, APP):
                await first.call("SetValue", scope=scope, key="k", value_json=b"1")
                things = collection_service_pb2.Collection(name="things", scope=scope)
                await first.call("Insert", collection=things, documents_json=[b"{}"])
            await first.end()
            for number, (http, seen) in enumerate(((mine, [1, 1, 1]), (theirs, [0, 0, 1])), 2):
                asked = await ask(handler, http, number)
                for scope, count in zip((USER, OWNER, APP), seen, strict=True):
                    value = await asked.call("GetValue", scope=scope, key="k")
                    assert value.HasField("value_json") == bool(count)
                    things = collection_service_pb2.Collection(name="things", scope=scope)
                    assert (await asked.call("Count", collection=things)).count == count
                await asked.end()


async def test_a_request_has_no_session_and_perhaps_no_user(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, attached(running) as handler:
        async with visitor(running, guest=False) as nobody:
            asked = await ask(handler, nobody, 1)
            await asked.call("SetValue", scope=APP, key="k", value_json=b"1")
            for scope in (USER, OWNER):
                for method, fields in (("GetValue", {}), ("SetValue", {"value_json": b"1"})):
                    with refused(grpc.StatusCode.FAILED_PRECONDITION, "NO_USER"):
                        await asked.call(method, scope=scope, key="k", **fields)
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as wrong:
                await asked.call("GetValue", scope=SESSION, key="k")
            assert wrong.fields == ["scope"]
            await asked.end()


async def test_after_its_answer_and_for_another_app_a_request_is_not_known(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, attached(running) as handler:
        async with visitor(running) as mine, BareHandler(running, "other") as foreign:
            asked = await ask(handler, mine, 1)
            for method, fields in (("GetValue", {}), ("SetValue", {"value_json": b"1"})):
                with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                    theft = Asked(foreign, asked.work, asked.answer)
                    await theft.call(method, scope=USER, key="k", **fields)
            await asked.end()
            for method, fields in (("GetValue", {}), ("SetValue", {"value_json": b"1"})):
                with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                    await asked.call(method, scope=APP, key="k", **fields)

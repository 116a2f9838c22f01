"""The chat's line to a sidecar that misbehaves: a server that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio

from capsule_protocol.v1 import channel_service_pb2 as pb
from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1.channel_service_pb2_grpc import (
    ChannelServiceServicer,
    add_ChannelServiceServicer_to_server,
)
from capsule_sidecar.commands import chat_link
from capsule_sidecar.commands.chat_link import Access, ChatError, ChatLink

Context = aio.ServicerContext[Any, Any]


class Scripted(ChannelServiceServicer):
    """Fails as often as it is told, then answers."""

    def __init__(self) -> None:
        self.failures: list[Callable[[Context], Awaitable[None]]] = []
        self.requests: list[Any] = []
        self.metadata: dict[str, str | bytes] = {}

    async def _next(self, request: Any, context: Context) -> None:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata() or ())
        if self.failures:
            await self.failures.pop(0)(context)

    async def SendMessage(self, request: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        await self._next(request, context)
        return pb.SendMessageResponse(offset=7)

    async def FollowSession(self, request: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        await self._next(request, context)
        for offset in range(request.after_offset + 1, request.after_offset + 3):
            frame = events_pb.FollowFrame(event=events_pb.Event(offset=offset))
            yield pb.FollowSessionResponse(frames=[frame])


def failing(code: grpc.StatusCode, detail: str = "") -> Callable[[Context], Awaitable[None]]:
    async def fail(context: Context) -> None:
        await context.abort(code, detail)

    return fail


def refusing(code: grpc.StatusCode, reason: str, detail: str, **metadata: str) -> Any:
    """Fails as a sidecar does, with `ErrorInfo`."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="capsule.dev", metadata=metadata)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=detail)
    status.details.append(packed)

    async def fail(context: Context) -> None:
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, detail, trailing)

    return fail


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Scripted, ChatLink, list[bool]]]:
    server = aio.server()
    service = Scripted()  # type: ignore[abstract]  # the other methods are unimplemented, as meant
    told: list[bool] = []
    add_ChannelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        access = Access(f"127.0.0.1:{port}", "secret", "a test")
        async with ChatLink(access, "demo", "terminal:ada") as link:
            link.on_line = told.append
            yield service, link, told
    finally:
        await server.stop(0)


async def test_a_call_carries_token_and_app() -> None:
    async with linked() as (service, link, _):
        assert await link.send("s", "hi") == 7
        assert service.metadata["authorization"] == "Bearer secret"
        assert service.metadata["capsule-app"] == "demo"


async def test_a_request_is_sent_again_with_the_same_id_until_it_is_answered() -> None:
    async with linked() as (service, link, told):
        await link.send("s", "before")
        service.requests.clear()
        service.failures = [
            failing(grpc.StatusCode.UNAVAILABLE),
            failing(grpc.StatusCode.DEADLINE_EXCEEDED),
            failing(grpc.StatusCode.CANCELLED),
            # Without a reason: a proxy has reset the call.
            failing(grpc.StatusCode.INTERNAL),
        ]
        assert await link.send("s", "hi") == 7
        assert len(service.requests) == 5
        assert len({request.request_id for request in service.requests}) == 1
        assert service.requests[0].request_id
        assert told == [False]  # a follower says when the line is back
        await link.send("s", "other")
        assert service.requests[-1].request_id != service.requests[0].request_id


async def test_a_refusal_is_not_sent_again_and_carries_its_reason() -> None:
    async with linked() as (service, link, _):
        service.failures = [
            refusing(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_CLOSED", "it is closed")
        ]
        with pytest.raises(ChatError, match="it is closed") as caught:
            await link.send("s", "hi")
        assert caught.value.reason == "SESSION_CLOSED"
        assert len(service.requests) == 1


async def test_a_fault_of_the_sidecar_is_a_reference_and_no_inner_text() -> None:
    async with linked() as (service, link, _):
        service.failures = [
            refusing(grpc.StatusCode.INTERNAL, "INTERNAL", "KeyError: 5", reference_id="r-1")
        ]
        with pytest.raises(ChatError) as caught:
            await link.send("s", "hi")
        assert str(caught.value) == "The sidecar failed. Reference: r-1"


async def test_following_goes_on_from_what_was_read_when_the_line_breaks() -> None:
    async with linked() as (service, link, told):
        service.failures = [
            failing(grpc.StatusCode.UNAVAILABLE),
            lambda context: asyncio.sleep(0),
            failing(grpc.StatusCode.UNAVAILABLE),
        ]
        read: list[int] = []
        async with aclosing(link.follow("s", lambda: len(read))) as batches:
            async for frames in batches:
                read += [frame.event.offset for frame in frames]
                if len(read) == 6:
                    break
        assert read == [1, 2, 3, 4, 5, 6]
        assert [request.after_offset for request in service.requests] == [0, 0, 2, 2, 4]
        assert told == [False, True, False, True, False, True]


async def test_following_ends_where_the_sidecar_refuses() -> None:
    async with linked() as (service, link, _):
        service.failures = [refusing(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "gone")]
        with pytest.raises(ChatError) as caught:
            async with aclosing(link.follow("s", lambda: 0)) as batches:
                await anext(batches)
        assert caught.value.reason == "NOT_FOUND"


async def test_a_line_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_link, "SILENCE", 0.1)

    async def hang(context: Context) -> None:
        await asyncio.sleep(30)

    async with linked() as (service, link, told):
        service.failures = [hang]
        async with aclosing(link.follow("s", lambda: 0)) as batches:
            frames = await anext(batches)
        assert frames[0].event.offset == 1
        assert told == [False, True]


async def test_what_is_no_sidecar_is_said_to_be_none() -> None:
    async with linked() as (_, link, _told):
        with pytest.raises(ChatError, match="no Capsule sidecar"):
            await link.sessions()

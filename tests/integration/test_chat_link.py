"""The chat's line to a sidecar that misbehaves: a server that does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio

from capsule_protocol.v1 import channel_service_pb2 as pb
from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import file_service_pb2 as file_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_protocol.v1.channel_service_pb2_grpc import (
    ChannelServiceServicer,
    add_ChannelServiceServicer_to_server,
)
from capsule_protocol.v1.file_service_pb2_grpc import (
    FileServiceServicer,
    add_FileServiceServicer_to_server,
)
from capsule_sidecar.commands import chat_link, chat_upload
from capsule_sidecar.commands.chat_files import FileProblem, look_at
from capsule_sidecar.commands.chat_link import Access, Answer, ChatError, ChatLink

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

    async def AnswerPrompt(self, request: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        await self._next(request, context)
        return pb.AnswerPromptResponse(accepted=True)

    async def FollowSession(self, request: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        await self._next(request, context)
        for offset in range(request.after_offset + 1, request.after_offset + 3):
            frame = events_pb.FollowFrame(event=events_pb.Event(offset=offset))
            yield pb.FollowSessionResponse(frames=[frame])


class Files(FileServiceServicer):
    """Takes uploads, after as many failures as it is told."""

    def __init__(self) -> None:
        # How many bytes it reads before each failure.
        self.failures: list[tuple[int, Callable[[Context], Awaitable[None]]]] = []
        self.headers: list[file_pb.UploadHeader] = []
        self.data = b""

    async def UploadFile(self, requests: Any, context: Context) -> Any:  # noqa: N802 - gRPC's name
        self.data = b""
        most, fail = self.failures.pop(0) if self.failures else (-1, None)
        async for request in requests:
            if request.HasField("header"):
                self.headers.append(request.header)
            self.data += request.data
            if fail is not None and len(self.data) >= most:
                await fail(context)
        return file_pb.UploadFileResponse(file=types_pb.File(file_id="fil_1", size=len(self.data)))


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
async def uploading() -> AsyncIterator[tuple[Files, ChatLink]]:
    server = aio.server()
    files = Files()  # type: ignore[abstract]  # the other methods are unimplemented, as meant
    add_FileServiceServicer_to_server(files, server)
    add_ChannelServiceServicer_to_server(Scripted(), server)  # type: ignore[abstract]  # as above
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        access = Access(f"127.0.0.1:{port}", "secret", "a test")
        async with ChatLink(access, "demo", "terminal:ada") as link:
            await link.send("s", "hi")  # there is a sidecar
            yield files, link
    finally:
        await server.stop(0)


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
    monkeypatch.setattr(chat_link, "SILENCE", 0.5)

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


async def test_an_answer_is_sent_again_with_the_same_id() -> None:
    async with linked() as (service, link, _):
        await link.send("s", "before")
        service.requests.clear()
        service.failures = [failing(grpc.StatusCode.UNAVAILABLE)] * 2
        assert (await link.answer("p", Answer(option=0))).accepted
        assert len(service.requests) == 3
        assert len({request.request_id for request in service.requests}) == 1
        assert service.requests[0].WhichOneof("answer") == "option"
        await link.answer("p", Answer(approved=False))
        assert service.requests[-1].WhichOneof("answer") == "approved"
        await link.answer("p", Answer())
        assert service.requests[-1].dismissed


async def test_an_upload_is_begun_anew_under_its_id_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 8192)  # 2 MiB
    async with uploading() as (files, link):
        files.failures = [
            (0, failing(grpc.StatusCode.UNAVAILABLE)),
            (1024 * 1024, failing(grpc.StatusCode.UNAVAILABLE)),
        ]
        told: list[int] = []
        file = await link.upload(look_at(path), told.append)
        assert (file.file_id, file.size) == ("fil_1", 2 * 1024 * 1024)
        assert files.data == path.read_bytes()
        assert len(files.headers) == 3
        assert len({header.request_id for header in files.headers}) == 1
        assert files.headers[0].caller.identity == "terminal:ada"
        assert files.headers[0].sha256 == look_at(path).sha256
        assert told[-1] == 2 * 1024 * 1024


async def test_an_upload_that_fails_for_minutes_is_given_up_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_link, "UPLOAD_PATIENCE", 3.0)
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    async with uploading() as (files, link), asyncio.timeout(15):
        files.failures = [(0, failing(grpc.StatusCode.UNAVAILABLE))] * 1000
        with pytest.raises(ChatError, match="was given up"):
            await link.upload(look_at(path), lambda sent: None)
        assert len(files.failures) < 999


async def test_an_upload_that_is_refused_half_way_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(4 * 1024 * 1024))
    async with uploading() as (files, link):
        refusal = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", "it is too large")
        # More than once: of a call that ends while it is written to, gRPC may lose the reason, and
        # the upload is then begun anew.
        files.failures = [(1024 * 1024, refusal)] * 5
        with pytest.raises(ChatError, match="it is too large"):
            await link.upload(look_at(path), lambda sent: None)


async def test_an_upload_that_nobody_reads_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Either ends first: how much is on its way unread is gRPC's affair.
    monkeypatch.setattr(chat_upload, "PIECE_TIMEOUT", 1.0)
    monkeypatch.setattr(chat_upload, "ANSWER_TIMEOUT", 1.0)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(4 * 1024 * 1024))

    async def hang(context: Context) -> None:
        await asyncio.sleep(30)

    async with uploading() as (files, link):
        files.failures = [(0, hang)]
        assert (await link.upload(look_at(path), lambda sent: None)).size == 4 * 1024 * 1024
        assert len(files.headers) == 2


async def test_a_file_that_is_gone_before_it_is_sent_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    async with uploading() as (_, link):
        file = look_at(path)
        path.unlink()
        with pytest.raises(FileProblem, match="cannot be read"):
            await link.upload(file, lambda sent: None)

"""FileService: files of handlers, and of the people whom channel adapters speak for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from capsule_protocol.v1 import file_service_pb2 as pb
from capsule_sidecar.config import Timing
from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.model.types import File
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.runtime.conversations import Caller, Conversations
from capsule_sidecar.runtime.files import Files
from capsule_sidecar.runtime.taking import Upload

# Of a piece, either way.
_PIECE = 1024 * 1024


class FileService:
    """Files, up and down.

    Args:
        files: The files.
        conversations: Knows the apps and people.
        timing: How long a piece may take to arrive.
    """

    def __init__(self, files: Files, conversations: Conversations, timing: Timing) -> None:
        self._files = files
        self._conversations = conversations
        self._timeout = timing.body_timeout
        self._write_timeout = timing.write_timeout

    async def UploadFile(self, _: object, context: Context) -> pb.UploadFileResponse:
        """Take a file in pieces."""
        first = await self._next(context)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidArgument("header", "must come first")
        header = first.header
        upload = Upload(
            header.request_id, header.name, header.content_type,
            header.size if header.HasField("size") else None, header.sha256,
        )  # fmt: skip
        pieces = self._pieces(context)
        caller = header.caller
        if _is_handler(caller):
            app = await self._handler_app()
            lease = convert.lease(caller.invocation_id, caller.attempt)
            file = await self._files.upload_of_handler(app, lease, upload, pieces)
        else:
            who = _person(caller)
            person = await self._conversations.person(who)
            file = await self._files.upload_of_person(person, who, upload, pieces)
        return pb.UploadFileResponse(file=self._files.addresses.file(file))

    async def DownloadFile(self, request: pb.DownloadFileRequest, context: Context) -> None:
        """Send a file's description, and its bytes in pieces."""
        file = await self._find(request.caller, request.file_id)
        start, end = self._files.cut(file, request.offset, request.length)
        described = pb.DownloadFileResponse(file=self._files.addresses.file(file))
        with self._files.sending():
            await self._write(context, described)
            async with aclosing(self._files.read(file, start, end)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    await self._write(context, pb.DownloadFileResponse(data=piece))

    async def _write(self, context: Context, answer: pb.DownloadFileResponse) -> None:
        """Send a piece, for which its reader has its time.

        Raises:
            LimitExceeded: It does not read.
        """
        try:
            async with asyncio.timeout(self._write_timeout):
                await context.write(answer.SerializeToString())
        except TimeoutError:
            raise LimitExceeded(
                "write_timeout", round(self._write_timeout),
                f"nothing was read for {self._write_timeout:g} s; go on from where you are",
            ) from None  # fmt: skip

    async def GetFile(self, request: pb.GetFileRequest, context: Context) -> pb.GetFileResponse:
        """Return what is known of a file."""
        file = await self._find(request.caller, request.file_id)
        return pb.GetFileResponse(file=self._files.addresses.file(file))

    async def _find(self, caller: pb.FileCaller, file_id: str) -> File:
        if not file_id:
            raise InvalidArgument("file_id", "is required")
        if _is_handler(caller):
            app = await self._handler_app()
            lease = convert.lease(caller.invocation_id, caller.attempt)
            return await self._files.of_handler(app, lease, file_id)
        person = await self._conversations.person(_person(caller))
        return await self._files.of_person(person, file_id)

    async def _handler_app(self) -> int:
        who = principal()
        who.require_handler()
        return await self._conversations.app(who.require_app())

    async def _pieces(self, context: Context) -> AsyncIterator[bytes]:
        while (request := await self._next(context)) is not None:
            if request.WhichOneof("part") != "data":
                raise InvalidArgument("data", "must follow the header, which comes once")
            if len(request.data) > _PIECE:
                raise InvalidArgument("data", f"has at most {_PIECE} bytes")
            if request.data:
                yield request.data

    async def _next(self, context: Context) -> pb.UploadFileRequest | None:
        """Return the caller's next message; None where it has said all."""
        try:
            async with asyncio.timeout(self._timeout):
                request: object = await context.read()
        except TimeoutError:
            raise LimitExceeded(
                "body_timeout", round(self._timeout),
                f"nothing came for {self._timeout:g} s; upload it again",
            ) from None  # fmt: skip
        return request if isinstance(request, pb.UploadFileRequest) else None


def _is_handler(caller: pb.FileCaller) -> bool:
    """Whether an attempt calls, rather than a person.

    Raises:
        InvalidArgument: Both are named, or neither.
    """
    if bool(caller.invocation_id) == bool(caller.identity):
        raise InvalidArgument("caller", "name an invocation with its attempt, or an identity")
    return bool(caller.invocation_id)


def _person(caller: pb.FileCaller) -> Caller:
    who = principal()
    who.require_identity(caller.identity)
    return Caller(who.require_app(), caller.identity, trusted=who.grant.operator)

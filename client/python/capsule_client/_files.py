"""A turn's files: calls of FileService, beside the line and on its connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc.aio

from capsule_client import _channel
from capsule_client._beside import Reach, Tries, opened, step, timed
from capsule_client._disk import PartFile, off_loop
from capsule_client._limits import Limits
from capsule_client._turn import Turn
from capsule_client.errors import CapsuleError, LimitExceeded, Unavailable
from capsule_client.types import Attachment
from capsule_protocol.v1 import file_service_pb2 as pb
from capsule_protocol.v1 import types_pb2

A = TypeVar("A", bound=Attachment)

PIECE_BYTES = 512 * 1024  # of an upload, and of what is written to disk at once; 1 MiB may be sent
_UPLOADS = 4  # of one turn at once: fewer than the sidecar takes, the rest wait here
_PIECE_TIMEOUT = 30.0  # for the next piece to come or go
_ANSWER_TIMEOUT = 60.0  # for the last piece to be on disk


class Content(Protocol):
    """What is uploaded."""

    name: str
    content_type: str
    size: int
    sha256: bytes  # empty: not known before it is read

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Returns it from its beginning, each piece at most PIECE_BYTES."""


class TurnFiles:
    """Moves files in the name of one turn.

    A call that fails for the moment is made again: a download goes on behind the last byte that
    came, an upload begins anew under the same request id. While the line is lost nothing is given
    up, as with commands: the turn's lease decides.
    """

    __slots__ = ("_limits", "_new_id", "_reach", "_turn", "_uploading")

    def __init__(
        self, turn: Turn, limits: Limits, new_id: Callable[[], str], reach: Callable[[], Reach]
    ) -> None:
        self._turn = turn
        self._limits = limits
        self._new_id = new_id
        self._reach = reach
        self._uploading = asyncio.Semaphore(_UPLOADS)

    @property
    def session_id(self) -> str:
        """The session whose files these are."""
        return self._turn.invocation.session.session_id

    def lead(self, attachment: A) -> A:
        """Has an attachment be read through these; returns it."""
        object.__setattr__(attachment, "_files", self)  # no field: it is frozen and compares
        return attachment

    def holds(self, attachment: Attachment) -> bool:
        """Whether an attachment is known to be a file of this session."""
        given_by: TurnFiles | None = getattr(attachment, "_files", None)
        return given_by is not None and given_by.session_id == self.session_id

    async def download(self, attachment: Attachment, path: str | os.PathLike[str]) -> str:
        """Writes a file to disk; see `Attachment.download`."""
        part = PartFile(path, attachment.name)
        try:
            await off_loop(part.open)
            waiting: list[bytes] = []
            size = 0

            async def keep(piece: bytes) -> None:
                nonlocal size
                waiting.append(piece)
                size += len(piece)
                if size >= PIECE_BYTES:
                    await flush()

            async def flush() -> None:
                nonlocal size
                data = b"".join(waiting)
                waiting.clear()
                size = 0
                await off_loop(part.write, data)

            file = await self._receive(attachment.id, keep)
            await flush()
            _check(file, part.size, part.digest())
            return await off_loop(part.commit)
        finally:
            await off_loop(part.discard)

    async def read(self, attachment: Attachment) -> bytes:
        """Returns a file's bytes; see `Attachment.read`."""
        pieces: list[bytes] = []

        async def keep(piece: bytes) -> None:
            pieces.append(piece)

        file = await self._receive(attachment.id, keep)
        data, digest = await off_loop(_joined, pieces)
        _check(file, len(data), digest)
        return data

    async def upload(self, content: Content) -> str:
        """Uploads a file for the turn's session and returns its id."""
        maximum = self._limits.max_file_bytes
        if content.size > maximum:
            raise LimitExceeded(
                f"{content.name} has {content.size} bytes; a file has at most {maximum}"
                " (limits.max_file_bytes of the sidecar)",
                reason="LIMIT_EXCEEDED",
                metadata={"limit": "file", "maximum": str(maximum)},
            )
        header = pb.UploadHeader(
            caller=self._caller(),
            request_id=self._new_id(),
            name=content.name,
            content_type=content.content_type,
            size=content.size,
            sha256=content.sha256,
        )
        tries = Tries()
        async with self._uploading:
            while True:
                try:
                    return await self._send(header, content)
                except (Unavailable, LimitExceeded) as error:
                    await tries.wait(error, lost=not self._reach().connected)

    async def _send(self, header: pb.UploadHeader, content: Content) -> str:
        channel, metadata = self._open()
        upload: Any = channel.stream_unary(
            _channel.UPLOAD,
            request_serializer=pb.UploadFileRequest.SerializeToString,
            response_deserializer=pb.UploadFileResponse.FromString,
        )
        call = upload(metadata=metadata)
        # Waited for from the beginning: behind a write that failed, the call no longer knows why.
        answer = asyncio.create_task(_answer(call), name="capsule-upload")
        try:
            try:
                await timed(call.write(pb.UploadFileRequest(header=header)), _PIECE_TIMEOUT)
                async with aclosing(content.pieces()) as pieces:
                    async for piece in pieces:
                        await timed(call.write(pb.UploadFileRequest(data=piece)), _PIECE_TIMEOUT)
                await timed(call.done_writing(), _PIECE_TIMEOUT)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                pass  # it is answered already: refused, or complete since an earlier try
            done = await step(asyncio.shield(answer), _ANSWER_TIMEOUT)
            return done.file.file_id
        except CapsuleError as error:
            if type(error) is CapsuleError and not error.reason:
                raise Unavailable(f"the upload was broken off: {error}") from error
            raise
        finally:
            call.cancel()
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _receive(
        self, file_id: str, keep: Callable[[bytes], Awaitable[None]]
    ) -> types_pb2.File:
        """Gives the bytes of a file to `keep`; returns what it is."""
        request = pb.DownloadFileRequest(caller=self._caller(), file_id=file_id)
        file: types_pb2.File | None = None
        tries = Tries()
        while True:
            try:
                channel, metadata = self._open()
                download: Any = channel.unary_stream(
                    _channel.DOWNLOAD,
                    request_serializer=pb.DownloadFileRequest.SerializeToString,
                    response_deserializer=pb.DownloadFileResponse.FromString,
                )
                call = download(request, metadata=metadata)
                try:
                    while True:
                        answer = await step(call.read(), _PIECE_TIMEOUT)
                        if not isinstance(answer, pb.DownloadFileResponse):
                            break
                        if answer.HasField("file"):
                            file = answer.file
                        if answer.data:
                            request.offset += len(answer.data)
                            tries.progress()
                            await keep(answer.data)
                finally:
                    call.cancel()
                if file is None:
                    raise CapsuleError("the sidecar sent a file without saying what it is")
                return file
            except (Unavailable, LimitExceeded) as error:
                if file is not None and request.offset == file.size:
                    return file  # only the end of the call was lost
                await tries.wait(error, lost=not self._reach().connected)

    def _caller(self) -> pb.FileCaller:
        return pb.FileCaller(invocation_id=self._turn.invocation_id, attempt=self._turn.attempt)

    def _open(self) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        self._turn.check()
        return opened(self._reach())


async def _answer(call: Any) -> pb.UploadFileResponse:
    answer: pb.UploadFileResponse = await call
    return answer


def _joined(pieces: list[bytes]) -> tuple[bytes, bytes]:
    data = b"".join(pieces)
    return data, hashlib.sha256(data).digest()


def _check(file: types_pb2.File, size: int, digest: bytes) -> None:
    if size != file.size or digest != file.sha256:
        raise CapsuleError(
            f"what came of {file.name!r} is not what was uploaded", reason="DIGEST_MISMATCH"
        )

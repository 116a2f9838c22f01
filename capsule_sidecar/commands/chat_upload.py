"""Sends a file to the sidecar in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, BinaryIO

from grpc import aio

from capsule_protocol.v1 import file_service_pb2 as pb
from capsule_protocol.v1.file_service_pb2_grpc import FileServiceStub
from capsule_sidecar.commands.chat_files import FileProblem, LocalFile

PIECE_BYTES = 256 * 1024  # of 1 MiB that one may have: progress is told by the piece
PIECE_TIMEOUT = 45.0  # seconds for one piece; the sidecar takes them as fast as its disk does
ANSWER_TIMEOUT = 120.0  # seconds for the answer: the file goes to its store before


class Upload:
    """One upload under one request id: `send` again is the same upload from its beginning."""

    def __init__(
        self,
        stub: FileServiceStub,
        file: LocalFile,
        header: pb.UploadHeader,
        on_progress: Callable[[int], None],
    ) -> None:
        """Takes what is told how many bytes went out."""
        self._stub = stub
        self._file = file
        self._header = header
        self._on_progress = on_progress

    async def send(
        self, request: None, *, metadata: tuple[tuple[str, str], ...], timeout: float
    ) -> pb.UploadFileResponse:
        """Sends it once. Called like a unary method; its deadline is one for each piece.

        Raises:
            AioRpcError: the call failed.
            TimeoutError: nothing went on.
            FileProblem: the file cannot be read any more.
        """
        # The stubs know the form of the other, blocking kind of call only.
        call: Any = self._stub.UploadFile(metadata=metadata)  # type: ignore[call-arg]
        # Waited for from the beginning: behind a write that failed, gRPC hides why.
        answer = asyncio.ensure_future(_answer(call))
        try:
            try:
                await self._write(call)
            except (asyncio.InvalidStateError, aio.AioRpcError):
                pass  # it is answered already, and the answer says why
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await answer
        finally:
            call.cancel()
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        try:
            file = await asyncio.to_thread(self._file.path.open, "rb")
        except OSError as error:
            raise FileProblem(f"{self._file.path} cannot be read: {error.strerror}") from error
        with file:
            await self._piece(call, pb.UploadFileRequest(header=self._header))
            sent = 0
            self._on_progress(sent)
            while data := await asyncio.to_thread(self._read, file):
                await self._piece(call, pb.UploadFileRequest(data=data))
                sent += len(data)
                self._on_progress(sent)
        async with asyncio.timeout(PIECE_TIMEOUT):
            await call.done_writing()

    def _read(self, file: BinaryIO) -> bytes:
        try:
            return file.read(PIECE_BYTES)
        except OSError as error:
            raise FileProblem(f"{self._file.path} cannot be read: {error.strerror}") from error

    async def _piece(self, call: Any, piece: pb.UploadFileRequest) -> None:
        async with asyncio.timeout(PIECE_TIMEOUT):
            await call.write(piece)


async def _answer(call: Any) -> pb.UploadFileResponse:
    answer: pb.UploadFileResponse = await call
    return answer

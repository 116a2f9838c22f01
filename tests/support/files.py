"""Files in tests: moved over gRPC, and what a sidecar keeps of them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from capsule_protocol.v1 import file_service_pb2 as pb
from capsule_protocol.v1 import file_service_pb2_grpc, types_pb2
from tests.support.sidecar import Person, request_id
from tests.support.turns import Desk

PIECE = 256 * 1024


def stored(home: Path) -> list[str]:
    """Returns the names of what lies in a home's store, half-written things among them."""
    return sorted(p.name for p in (home / "files").rglob("*") if p.is_file())


def rows(home: Path) -> list[tuple[str, int]]:
    """Returns the ids and states of the files that a home's database knows of."""
    database = sqlite3.connect(home / "capsule.db")
    try:
        return database.execute("SELECT key, state FROM files ORDER BY key").fetchall()
    finally:
        database.close()


def resident(pid: int) -> float:
    """Returns the memory that a process holds, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Mover:
    """Moves files over gRPC, for a person or for a turn's handler."""

    def __init__(self, who: Person | Desk) -> None:
        if isinstance(who, Person):
            channel, self.metadata = who.channel, who.metadata
            self.caller = pb.FileCaller(identity=who.identity)
        else:
            channel, self.metadata = who.handler.channel, who.handler.metadata
            work = who.work
            self.caller = pb.FileCaller(invocation_id=work.invocation_id, attempt=work.attempt)
        self.stub: Any = file_service_pb2_grpc.FileServiceStub(channel)

    def parts(
        self, data: bytes, name: str = "notes.txt", content_type: str = "text/plain", **header: Any
    ) -> list[pb.UploadFileRequest]:
        """Returns what an upload sends."""
        given: dict[str, Any] = {"caller": self.caller, "request_id": request_id()} | header
        first = pb.UploadHeader(name=name, content_type=content_type, **given)
        return [
            pb.UploadFileRequest(header=first),
            *(
                pb.UploadFileRequest(data=data[at : at + PIECE])
                for at in range(0, len(data), PIECE)
            ),
        ]

    async def send(self, parts: list[pb.UploadFileRequest]) -> types_pb2.File:
        """Sends an upload's messages and returns the file.

        Of a call that ends while it is written to, gRPC may lose the end and call it an error of
        its own, as it does about once in a thousand: it is then made anew, as clients do.
        """

        async def each() -> AsyncIterator[pb.UploadFileRequest]:
            for part in parts:
                yield part

        tries = 3
        while True:
            try:
                answer = await self.stub.UploadFile(each(), metadata=self.metadata, timeout=120)
            except grpc.aio.AioRpcError as error:
                tries -= 1
                if error.details() != "Internal error from Core" or not tries:
                    raise
            else:
                file: types_pb2.File = answer.file
                return file

    async def up(self, data: bytes, *args: Any, **header: Any) -> types_pb2.File:
        """Uploads a file."""
        return await self.send(self.parts(data, *args, **header))

    async def down(self, file_id: str, **place: int) -> bytes:
        """Downloads a file, or a part of it."""
        request = pb.DownloadFileRequest(caller=self.caller, file_id=file_id, **place)
        found = []
        async for piece in self.stub.DownloadFile(request, metadata=self.metadata, timeout=120):
            assert len(piece.data) <= 1 << 20
            found.append(piece.data)
        return b"".join(found)

    async def get(self, file_id: str) -> types_pb2.File:
        """Returns what is known of a file."""
        request = pb.GetFileRequest(caller=self.caller, file_id=file_id)
        answer = await self.stub.GetFile(request, metadata=self.metadata, timeout=20)
        file: types_pb2.File = answer.file
        return file

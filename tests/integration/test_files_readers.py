"""Readers of files: how many there may be, what those cost that do not read, and their end."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest

from capsule_protocol.v1 import file_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.files import Mover, resident
from tests.support.http import Browser, Line, connections, problem, served
from tests.support.sidecar import Person, SidecarProcess, refused, running_sidecar
from tests.support.work import passed

MIB = 1 << 20


class Deaf(Line):
    """A connection that asks for a file and reads only what it is told to, in small pieces."""

    async def __aenter__(self) -> Deaf:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (self._host, self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=1024)
        return self

    async def ask(self, url: str) -> None:
        """Asks for a file."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        self.transport = transport
        transport.pause_reading()
        target = httpx.URL(url).raw_path.decode()
        await self.send(f"GET {target} HTTP/1.1\r\nhost: HOST\r\n\r\n")

    async def sip(self, size: int) -> bytes:
        """Reads a little."""
        self.transport.resume_reading()
        try:
            return await self._reader.read(size)
        finally:
            self.transport.pause_reading()


async def test_so_many_read_files_at_once_and_no_more(tmp_path: Path) -> None:
    limits = {"downloads": 3, "downloads_per_network": 2, "channel_downloads": 1}
    async with (
        served(tmp_path, limits=limits) as (running, _),
        Browser(running) as me,
        Person(running) as ada,
    ):
        await me.sign_in()
        file = await me.upload(os.urandom(20 * MIB))
        async with AsyncExitStack() as stack:
            for _ in range(2):
                deaf = await stack.enter_async_context(Deaf(running))
                await deaf.ask(file["url"])
                assert await deaf.sip(9) == b"HTTP/1.1 "
            too_many = await me.http.get(file["url"])
            problem(too_many, 429, "RATE_LIMITED")
            assert int(too_many.headers["retry-after"]) > 0
            assert (await me.http.head(file["url"])).status_code == 200
            # What handlers and channels read is not in their way.
            mine = Mover(ada)
            own = await mine.up(os.urandom(20 * MIB))
            request = pb.DownloadFileRequest(caller=mine.caller, file_id=own.file_id)
            call = mine.stub.DownloadFile(request, metadata=mine.metadata)
            await call.read()
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
                await mine.down(own.file_id)
            call.cancel()
            await eventually(lambda: _goes(mine, own.file_id), message="there is room again")

        async def whole() -> bool:
            return (await me.http.get(file["url"])).status_code == 200

        await eventually(whole, timeout=15, message="there is room again")


async def test_who_reads_nothing_or_a_drip_is_ended_and_who_reads_slowly_is_not(
    tmp_path: Path,
) -> None:
    timing = {"write_timeout": 2.0}
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(os.urandom(20 * MIB))
        before = connections(running)
        async with AsyncExitStack() as stack:
            deaf, drip, slow = [
                await stack.enter_async_context(Deaf(running)) for _ in range(3)
            ]  # fmt: skip
            for line in (deaf, drip, slow):
                await line.ask(file["url"])
            dripping = asyncio.create_task(_reads(drip, 10, 0.2))
            reading = asyncio.create_task(_reads(slow, 2000, 0.02))
            try:
                await eventually(
                    lambda: connections(running) == before + 1, timeout=20, message="two are ended"
                )
                await passed(5.0)
                assert connections(running) == before + 1, "who reads is not ended"
            finally:
                for task in (dripping, reading):
                    task.cancel()
                await asyncio.gather(dripping, reading, return_exceptions=True)


async def _reads(line: Deaf, size: int, pause: float) -> None:
    while True:
        await line.sip(size)
        await asyncio.sleep(pause)  # the reader that is meant


async def test_who_does_not_read_over_grpc_is_ended(tmp_path: Path) -> None:
    timing = {"write_timeout": 1.0}
    limits = {"channel_downloads": 1}
    async with (
        running_sidecar(tmp_path, timing=timing, limits=limits) as running,
        Person(running) as ada,
    ):
        mine = Mover(ada)
        file = await mine.up(os.urandom(20 * MIB))
        request = pb.DownloadFileRequest(caller=mine.caller, file_id=file.file_id)
        call = mine.stub.DownloadFile(request, metadata=mine.metadata)
        await call.read()
        await eventually(lambda: _goes(mine, file.file_id), timeout=15, message="it was ended")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"):
            while await call.read() is not grpc.aio.EOF:
                pass


@pytest.mark.deadline(90)
async def test_a_hundred_readers_that_do_not_read_cost_little(tmp_path: Path) -> None:
    environment = {"CAPSULE_LIMITS__DOWNLOADS_PER_NETWORK": "200"}
    async with SidecarProcess(tmp_path, environment=environment) as sidecar:
        running = await sidecar.start()
        assert sidecar.process is not None
        pid = sidecar.process.pid
        async with Person(running) as ada, AsyncExitStack() as stack:
            mine = Mover(ada)
            file = await mine.up(os.urandom(20 * MIB))
            await mine.down(file.file_id)
            async with httpx.AsyncClient(trust_env=False) as client:
                assert len((await client.get(file.url)).content) == 20 * MIB
            before, held = resident(pid), _open_files(pid)
            readers = [await stack.enter_async_context(Deaf(running)) for _ in range(100)]
            for reader in readers:
                await reader.ask(file.url)
            for reader in readers:
                assert await reader.sip(9) == b"HTTP/1.1 "
            await passed(2.0)
            each = (resident(pid) - before) / 100
            assert each < 0.25, f"{each:.3f} MiB each"
            assert _open_files(pid) - held < 150, "their connections, and no file for each"


async def _goes(mover: Mover, file_id: str) -> bool:
    try:
        return bool(await mover.down(file_id))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())

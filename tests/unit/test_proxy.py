"""The proxy that other tests cut lines with does what they rely on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy


class Peer:
    """A server that answers each line with itself, and `big N` with N bytes."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.gone = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                if line.startswith(b"big "):
                    line = b"x" * int(line[4:])
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.gone += 1
            writer.close()


@asynccontextmanager
async def line() -> AsyncIterator[tuple[FaultProxy, Peer]]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with FaultProxy("127.0.0.1", port) as proxy:
            yield proxy, peer
    finally:
        server.close()


class Client:
    """A client of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, proxy: FaultProxy) -> Client:
        host, port = proxy.address.split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, text: str, timeout: float = 5.0) -> str:
        self.writer.write(text.encode() + b"\n")
        async with asyncio.timeout(timeout):
            return (await self.reader.readline()).decode().strip()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def test_it_carries_both_ways_and_ends_with_either_side() -> None:
    async with line() as (proxy, peer):
        client = await Client.connect(proxy)
        assert await client.ask("one") == "one"
        assert proxy.open == 1
        await client.close()
        await eventually(lambda: proxy.open == 0 and peer.gone == 1)


async def test_the_end_that_the_target_makes_is_an_orderly_one() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"y" * 300_000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        client = await Client.connect(proxy)
        async with asyncio.timeout(5):
            assert len(await client.reader.read(-1)) == 300_000
        await client.close()
    server.close()


async def test_a_cut_resets_every_connection_and_lets_new_ones_in() -> None:
    async with line() as (proxy, peer):
        clients = [await Client.connect(proxy) for _ in range(3)]
        for client in clients:
            await client.ask("here")
        proxy.cut()
        for client in clients:
            with pytest.raises(ConnectionResetError):
                await client.reader.read(1)
            await client.close()
        await eventually(lambda: peer.gone == 3 and proxy.open == 0)
        again = await Client.connect(proxy)
        assert await again.ask("again") == "again"
        assert proxy.accepted == 4
        await again.close()


async def test_while_it_refuses_those_that_are_connected_go_on() -> None:
    async with line() as (proxy, _):
        client = await Client.connect(proxy)
        await client.ask("in")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(proxy)
        assert await client.ask("still") == "still"
        await proxy.restore()
        other = await Client.connect(proxy)
        assert await other.ask("let in") == "let in"
        await client.close()
        await other.close()


async def test_what_is_said_in_silence_comes_afterwards() -> None:
    async with line() as (proxy, peer):
        client = await Client.connect(proxy)
        await client.ask("before")
        proxy.silence()
        with pytest.raises(TimeoutError):
            await client.ask("in between", timeout=0.2)
        newcomer = await Client.connect(proxy)  # let in, and not heard
        with pytest.raises(TimeoutError):
            await newcomer.ask("who is there", timeout=0.2)
        assert peer.heard == [b"before\n"]
        await proxy.restore()
        assert await client.ask("after") == "in between"
        assert (await client.reader.readline()) == b"after\n"
        await client.close()
        await newcomer.close()


async def test_it_resets_behind_the_byte_it_is_told_and_only_once() -> None:
    async with line() as (proxy, _):
        client = await Client.connect(proxy)
        await client.ask("some")
        proxy.truncate(1000)
        client.writer.write(b"big 5000\n")
        assert len(await client.reader.readexactly(1000)) == 1000
        with pytest.raises(ConnectionResetError):
            await client.reader.read(1)
        assert proxy.truncated == 1
        await client.close()
        again = await Client.connect(proxy)
        again.writer.write(b"big 5000\n")
        assert len(await again.reader.readexactly(5000)) == 5000
        await again.close()


async def test_delay_and_rate_slow_it_down_and_lose_nothing() -> None:
    async with line() as (proxy, _):
        client = await Client.connect(proxy)
        proxy.delay = 0.1
        begun = time.monotonic()
        assert await client.ask("slowly") == "slowly"
        assert time.monotonic() - begun >= 0.2  # there and back
        proxy.delay, proxy.rate = 0.0, 20_000
        begun = time.monotonic()
        client.writer.write(b"big 10000\n")
        assert await client.reader.readexactly(10_000) == b"x" * 10_000
        assert time.monotonic() - begun >= 0.4
        await client.close()


async def test_another_target_serves_the_next_connections() -> None:
    async with line() as (proxy, first), line() as (_, second):
        old = await Client.connect(proxy)
        await old.ask("first")
        server = await asyncio.start_server(second.serve, "127.0.0.1", 0)
        proxy.target("127.0.0.1", server.sockets[0].getsockname()[1])
        new = await Client.connect(proxy)
        await new.ask("second")
        await old.ask("still first")
        assert first.heard == [b"first\n", b"still first\n"]
        assert second.heard == [b"second\n"]
        await old.close()
        await new.close()
        await eventually(lambda: second.gone == 1)
        server.close()


async def test_a_target_that_is_not_there_ends_the_connection() -> None:
    async with line() as (proxy, _):
        away = FaultProxy("127.0.0.1", 1)
        proxy.target("127.0.0.1", int(away.address.split(":")[1]))  # bound, nobody listens
        client = await Client.connect(proxy)
        with pytest.raises(ConnectionResetError):
            await client.reader.read(1)
        await client.close()
        await away.__aexit__()

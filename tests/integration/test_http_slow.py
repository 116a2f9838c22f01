"""Readers that do not read: what they cost is bounded, and they are ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.test_http_events import turn
from tests.support.eventually import eventually
from tests.support.http import Browser, Line, connections, followers
from tests.support.sidecar import FAST
from tests.support.work import passed

MIB = 1 << 20


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Deaf(Line):
    """A connection that asks, and never reads what it is answered."""

    @property
    def transport(self) -> asyncio.ReadTransport:
        """What reads ahead unless it is held."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        return transport

    async def ask(self, me: Browser, path: str, times: int = 1) -> None:
        """Sends a request, or several at once: between them it might be ended already."""
        self.transport.pause_reading()
        cookie = f"capsule_{me.app}={me.token}"
        request = f"GET {path} HTTP/1.1\r\nHost: HOST\r\nCookie: {cookie}\r\n\r\n"
        await self.send(request * times)


@pytest.mark.deadline(90)
async def test_readers_of_events_that_do_not_read_are_bounded_and_ended(tmp_path: Path) -> None:
    """What they do not read is many times what they may cost."""
    timing = FAST | {"write_timeout": 2.0}
    limits = {"max_text_bytes": MIB, "batch_bytes": MIB}
    async with turn(tmp_path, timing=timing, limits=limits) as (me, session, desk):
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(me.follow(session))
            await reader.live()
            before = resident()
            for _ in range(20):
                deaf = await stack.enter_async_context(Deaf(desk.running))
                await deaf.ask(me, f"{me.v1}/sessions/{session}/events")
            await eventually(lambda: followers(desk.running) == 21)
            for number in range(40):
                text = f"{number:04}" + "x" * (256 * 1024)
                await desk.command("reply", text=text)
            await reader.sees("message_added", 41)
            # 10 MiB for each of the 20; each may hold a batch and the kernel's buffers.
            grown = resident() - before
            assert grown < 140 * MIB, f"{grown / MIB:.0f} MiB more"
            await eventually(lambda: followers(desk.running) == 1, timeout=15)
            await eventually(lambda: connections(desk.running) <= 2, timeout=15)
            assert not reader.ended
            texts = [e["message_added"]["message"]["text"][:4] for e in reader.events[2:]]
            assert texts == ["hell", *[f"{number:04}" for number in range(40)]]


PAGES = 12  # of 1 MiB: more than the kernel's buffers hold


async def test_a_reader_of_pages_that_does_not_read_is_ended(tmp_path: Path) -> None:
    timing = FAST | {"write_timeout": 0.5, "keep_alive": 30.0}
    async with turn(tmp_path, timing=timing) as (me, session, desk):
        for _ in range(5):
            await desk.command("reply", text="x" * (200 * 1024))
        async with AsyncExitStack() as stack:
            deaf = [await stack.enter_async_context(Deaf(desk.running)) for _ in range(5)]
            # Before any of them asks: the first may be ended while the last one does.
            await eventually(lambda: connections(desk.running) >= 5)
            for one in deaf:
                await one.ask(me, f"{me.v1}/sessions/{session}", PAGES)
            await eventually(lambda: connections(desk.running) <= 1, timeout=15)
            assert (await me.timeline(session))["items"]


async def test_a_reader_that_reads_slowly_gets_all_of_it(tmp_path: Path) -> None:
    timing = FAST | {"write_timeout": 1.5, "keep_alive": 1.5}
    async with turn(tmp_path, timing=timing) as (me, session, desk):
        for _ in range(5):
            await desk.command("reply", text="x" * (200 * 1024))
        page = len((await me.get(f"/sessions/{session}")).content)
        async with Deaf(desk.running) as slow:
            await slow.ask(me, f"{me.v1}/sessions/{session}", PAGES)
            read = 0
            while read < PAGES * page:
                slow.transport.resume_reading()
                chunk = await slow._reader.read(128 * 1024)
                assert chunk, f"cut after {read} bytes"
                slow.transport.pause_reading()
                read += len(chunk)
                await passed(0.05)  # all of it takes several times as long as one may not read

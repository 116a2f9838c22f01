"""Connections that send slowly, nothing, too much, or what is no HTTP: clear answers, bounded."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_http_slow import resident
from tests.support.eventually import eventually
from tests.support.http import Browser, Line, connections, served
from tests.support.sidecar import FAST

SLOW: dict[str, Any] = {
    "timing": FAST | {"head_timeout": 1.0, "body_timeout": 1.0, "keep_alive": 1.0}
}
KIB = 1024
GET = "GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
POST = (
    "POST /apps/support/v1/sessions HTTP/1.1\r\nHost: HOST\r\n"
    "Content-Type: application/json\r\n{}\r\n"
)


async def drip(line: Line, text: str) -> None:
    """Sends one byte at a time, so that none of them seems idle."""
    for character in text:
        try:
            await line.send(character)
        except ConnectionError:
            return
        await asyncio.sleep(0.02)


async def test_a_head_that_does_not_arrive_ends_its_connection(tmp_path: Path) -> None:
    async with served(tmp_path, **SLOW) as (running, _):
        for text in ("G", "GET / HTTP/1.1\r\nHost: HOST\r\nX: " + "y" * 60, "\r\n" * 40):
            async with Line(running) as line:
                slow = asyncio.create_task(drip(line, text))
                answer = await line.answer()
                assert (answer.status, answer.reason) == (408, "REQUEST_TIMEOUT")
                assert answer.headers["connection"] == "close"
                await line.closed()
                slow.cancel()
                await asyncio.gather(slow, return_exceptions=True)
        async with Line(running) as line:
            assert await line.closed() == b""  # nothing was asked
        async with Line(running) as line:
            await line.send(GET)
            assert (await line.answer()).status == 200
            assert await line.closed() == b""  # the next request did not come


async def test_a_body_that_does_not_arrive_ends_its_connection(tmp_path: Path) -> None:
    async with served(tmp_path, **SLOW) as (running, _):
        for length in ("Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"):
            async with Line(running) as line:
                await line.send(POST.format(length))
                slow = asyncio.create_task(drip(line, "1\r\n \r\n" * 20))
                answer = await line.answer()
                assert (answer.status, answer.reason) == (408, "REQUEST_TIMEOUT")
                assert answer.headers["connection"] == "close"
                assert answer.headers["x-request-id"]
                await line.closed()
                slow.cancel()
                await asyncio.gather(slow, return_exceptions=True)
        # Refused before its body is read: what goes on for ever is not read for ever.
        async with Line(running) as line:
            await line.send(
                "POST /healthz HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999\r\n\r\nx"
            )
            assert (await line.answer()).status == 405
            slow = asyncio.create_task(drip(line, "y" * 300))
            await line.closed()
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.deadline(90)
async def test_a_thousand_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    # Longer than it may take to open them all: the first must not be ended before the last comes.
    timing = FAST | {"head_timeout": 80.0}
    async with served(tmp_path, timing=timing) as (running, _), AsyncExitStack() as stack:
        before = resident()
        for number in range(1000):
            line = await stack.enter_async_context(Line(running))
            if number % 2:
                await line.send("POST /apps/support/v1/sess")  # and goes no further
        await eventually(lambda: connections(running) == 1000, timeout=20)
        async with Browser(running) as me:
            session = await me.open()
            await me.say(session, "still here")
            assert (await me.timeline(session))["items"]
        # Both ends are in this process; on the sidecar's alone it is about half.
        each = (resident() - before) / 1000
        assert each < 64 * KIB, f"{each / KIB:.0f} KiB for each connection"


async def test_beyond_the_limit_a_connection_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path, limits={"connections": 3}) as (running, _):
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(Line(running)) for _ in range(3)]
            for line in lines:
                await line.send(GET)
                assert (await line.answer()).status == 200
            async with Line(running) as fourth:
                answer = await fourth.answer()
                assert (answer.status, answer.reason) == (503, "TOO_MANY_CONNECTIONS")
                await fourth.closed()
            await lines[0].send(GET)
            assert (await lines[0].answer()).status == 200
        await eventually(lambda: connections(running) == 0)
        async with Line(running) as line:
            await line.send(GET)
            assert (await line.answer()).status == 200


@pytest.mark.parametrize(
    "head",
    [
        "GET /healthz HTTP/1.1\r\nHost: HOST\r\nX: " + "x" * 40_000 + "\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: HOST\r\n" + "X-Y: z\r\n" * 6_000 + "\r\n",
        "GET /" + "x" * 40_000 + " HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ],
    ids=["a long header", "many headers", "a long address"],
)
async def test_a_head_that_is_too_large_is_refused(tmp_path: Path, head: str) -> None:
    async with served(tmp_path) as (running, _), Line(running) as line:
        await line.send(head[:38_000])  # never ended: it must not be waited for
        answer = await line.answer()
        assert (answer.status, answer.reason) == (431, "HEAD_TOO_LARGE")
        await line.closed()


GARBAGE: list[bytes | str] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 100,
    b"hello\r\n\r\n",
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: HOST\r\n\r\n",
    "GET / HTTP/1.1\r\nHost HOST\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: HOST\r\nBad Name: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: HOST\r\nX: a\x00b\r\n\r\n",
    "GET /\xe9 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n",
    POST.format("Content-Length: x\r\n"),
    POST.format("Content-Length: -1\r\n"),
    POST.format("Content-Length: 2\r\nContent-Length: 3\r\n") + "{}",
    POST.format("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n") + "2\r\n{}\r\n0\r\n\r\n",
    POST.format("Transfer-Encoding: chunked\r\n") + "zz\r\n{}\r\n0\r\n\r\n",
    POST.format("Transfer-Encoding: chunked\r\n") + "ffffffffffffffffff\r\n{}\r\n",
]


async def test_what_is_no_http_is_refused_and_the_connection_ended(tmp_path: Path) -> None:
    async with served(tmp_path, **SLOW) as (running, _):
        for garbage in GARBAGE:
            async with Line(running) as line:
                await line.send(garbage)
                try:
                    answer = await line.answer()
                except asyncio.IncompleteReadError:
                    raise AssertionError(f"no answer to {garbage!r}") from None
                assert answer.status in (400, 408), (garbage, answer)
                assert b"Traceback" not in answer.body
                assert answer.headers["content-type"] == "application/problem+json", garbage
                assert answer.headers["x-request-id"]
                assert b"200 OK" not in await line.closed(), garbage
        async with Line(running) as line:
            await line.send(GET)
            assert (await line.answer()).status == 200


async def test_requests_that_are_sent_at_once_are_answered_in_their_order(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, _), Line(running) as line:
        ids = [f"r{number}" for number in range(60)]
        texts = [
            GET.replace("\r\n\r\n", f"\r\nX-Request-Id: {given}\r\n\r\n")
            if number % 3
            else POST.format(f"X-Request-Id: {given}\r\nContent-Length: 13\r\n") + '{"title": "t"'
            for number, given in enumerate(ids)
        ]
        await line.send("".join(texts))
        answers = [await line.answer() for _ in ids]
        assert [answer.headers["x-request-id"] for answer in answers] == ids
        assert {answer.status for answer in answers} == {200, 400}


async def test_bodies_come_in_chunks_and_on_request(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _):
        async with Line(running) as line:
            await line.send(POST.format("Transfer-Encoding: chunked\r\n"))
            for part in ('5;ext=1\r\n{"tit\r\n', '4\r\nle":\r\n', '4\r\n"t"}\r\n', "0\r\n\r\n"):
                await line.send(part)
            assert (await line.answer()).status == 201
            await line.send(POST.format("Content-Length: 2\r\nExpect: 100-continue\r\n"))
            assert (await line.answer()).status == 100
            await line.send("{}")
            assert (await line.answer()).status == 201
        async with Line(running) as line:  # who asks first is told at once
            too_much = "Content-Length: 3000000\r\nExpect: 100-continue\r\n"
            await line.send(POST.format(too_much))
            assert (await line.answer()).status == 413
        async with Line(running) as line:  # who does not may send a while to read the refusal
            await line.send(POST.format("Content-Length: 3000000\r\n") + "x" * 3_000_000)
            answer = await line.answer()
            assert (answer.status, answer.reason) == (413, "LIMIT_EXCEEDED")
        async with Line(running) as line:  # but not for ever
            await line.send(POST.format("Content-Length: 900000000\r\n"))
            assert (await line.answer()).status == 413
            await line.closed()
        async with Line(running) as line:
            await line.send(POST.format("Content-Length: 1000\r\n") + "{}")
        await eventually(lambda: connections(running) == 0)


async def test_who_asks_for_another_protocol_is_answered_in_this_one(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _):
        for upgrade in ("websocket", "h2c"):
            async with Line(running) as line:
                await line.send(
                    f"GET /healthz HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\n"
                    f"Upgrade: {upgrade}\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                assert (await line.answer()).status == 200


async def test_clients_that_go_leave_no_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an operator cannot act on is not said; a stack trace of it least of all."""
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        cookie = f"Cookie: capsule_support={me.token}\r\n"
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                async with Line(running) as line:
                    await line.send(POST.format("Content-Length: 1000\r\n") + "{")
                async with Line(running) as line:
                    await line.send(b"\x00\x01")
                async with Line(running) as line:
                    path = f"/apps/support/v1/sessions/{session}/events"
                    await line.send(f"GET {path} HTTP/1.1\r\nHost: HOST\r\n{cookie}\r\n")
                    line._writer.transport.abort()
            await eventually(lambda: connections(running) <= 1)
            await me.timeline(session)
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

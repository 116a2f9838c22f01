"""Case 3: what stands before the sidecar cuts, delays, truncates, is silent, or has no patience."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from capsule_sidecar.commands.chat_link import Access, ChatLink
from tests.faults.audience import Audience
from tests.faults.conftest import Report
from tests.faults.followers import Following
from tests.faults.processes import RESTARTING, Handlers
from tests.faults.visitors import Visitor
from tests.support.eventually import eventually
from tests.support.nginx import nginx_before
from tests.support.ports import steady_port
from tests.support.proxy import FaultProxy
from tests.support.sidecar import (
    BareHandler,
    Person,
    SidecarProcess,
    request_id,
    running_sidecar,
)

_RESTARTS = 4
_RESTARTS_BEHIND = 2  # of a sidecar behind nginx
_IDLE = 5.0  # seconds: nginx's patience
_ROUNDS = 3
_LONG_MESSAGES = 24
_IN_THE_MIDDLE = "in the middle of an event"
_PATIENCE = 2.5  # seconds of a client, of which a beat comes each
# As where it restarts in the open; whoever stands before the sidecar says who sends.
_TIMING = RESTARTING | {"CAPSULE_WEB__TRUSTED_PROXIES": '["127.0.0.1"]'}


async def _restart(sidecar: SidecarProcess, number: int) -> None:
    """Ends it, by a kill and by a word in turns, and starts it again."""
    if number % 2:
        assert await sidecar.end(signal.SIGTERM) == 0
    else:
        await sidecar.kill()
    await sidecar.start()


@pytest.mark.deadline(120)
async def test_event_streams_go_on_over_restarts_without_gap_or_repetition(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    open_streams = 0
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), _TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(Handlers(running, tmp_path, pace=0.03))
        await (await handlers.start()).attached()
        audience = await stack.enter_async_context(Audience(running, seed, visitors=6))
        for number in range(_RESTARTS):
            await asyncio.sleep(choice.uniform(0.5, 1.5))  # the random point
            open_streams += audience.streams
            await _restart(sidecar, number)
        figures, compared = await audience.agree(handlers)
        assert all(follower.lines > _RESTARTS for follower in audience.following)
        followers = len(audience.following)
    report(
        f"{_RESTARTS} restarts under {followers} followers and {open_streams} open streams;"
        f" {compared} texts seen growing became their message; {time.monotonic() - began:.0f} s"
    )
    report(audience.losses())
    report(str(figures))
    assert open_streams > 0
    assert compared > 0


@pytest.mark.deadline(180)
async def test_behind_an_nginx_that_ends_idle_lines_nothing_is_held_back_lost_or_repeated(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    open_streams = 0
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), _TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        nginx = await stack.enter_async_context(
            nginx_before(running.http, running.address, idle=_IDLE)
        )
        behind = replace(running, address=nginx.grpc, http=nginx.http)
        handlers = await stack.enter_async_context(Handlers(behind, tmp_path, pace=0.03))
        await (await handlers.start()).attached()
        audience = await stack.enter_async_context(Audience(behind, seed, visitors=4, others=2))
        for number in range(_RESTARTS_BEHIND):
            await asyncio.sleep(choice.uniform(0.5, 1.5))  # the random point
            open_streams += audience.streams
            await _restart(sidecar, number)
        await audience.quiet()
        idle = await _idles_with_an_open_text(audience, handlers)
        figures, compared = await audience.agree(handlers)
        assert all(follower.lines > _RESTARTS_BEHIND for follower in audience.following)
        timeouts = nginx.timeouts()
        followers = len(audience.following)
    report(
        f"nginx {nginx.version}, {_IDLE:g} s idle: {timeouts} lines ended by it; {_RESTARTS_BEHIND}"
        f" restarts under {followers} followers and {open_streams} open streams; {compared} texts"
        f" seen growing became their message; {time.monotonic() - began:.0f} s"
    )
    report(idle)
    report(audience.losses())
    report(str(figures))
    assert open_streams > 0
    # Each line of a follower was idle for longer than nginx waits, twice.
    assert timeouts >= 2 * followers


async def _idles_with_an_open_text(audience: Audience, handlers: Handlers) -> str:
    """Opens a text in each session, and lets nothing happen until every line was ended twice."""
    for talk in audience.talks:
        # To each of its followers, and not only at the end of a line that is idle: the text after
        # the first piece waits for the gate.
        await talk.ask(f"{talk.name}-idle stream:gate-{talk.name} stream")
    seen: list[float] = []
    for talk in audience.talks:
        held = await handlers.noted("held", text=f"gate-{talk.name}", session=talk.session_id)
        for follower in audience.followers[talk.session_id]:
            await eventually(
                partial(_shown, follower, talk.session_id),
                timeout=_IDLE - 1, message=f"the first words of {talk.name} pass nginx",
            )  # fmt: skip
        seen.append(time.monotonic() - held["time"])
    before = {id(follower): follower.lines for follower in audience.following}
    await eventually(
        lambda: all(f.lines >= before[id(f)] + 2 for f in audience.following),
        timeout=6 * _IDLE, interval=0.1, message="nginx ends every idle line twice",
    )  # fmt: skip
    for talk in audience.talks:
        handlers.open_gate(f"gate-{talk.name}")
    return (
        f"first words of {len(seen)} texts passed nginx at most {max(seen) * 1000:.0f} ms after"
        " they were written, and stayed open over two idle ends of every line"
    )


def _shown(follower: Following, session_id: str) -> bool:
    return any(stream.text for stream in follower.of(session_id).streams.values())


async def test_nginx_piles_nothing_up_for_a_reader_that_is_slow(
    tmp_path: Path, report: Report
) -> None:
    """Else its disk would fill, and the sidecar would never know of the reader."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_sidecar(tmp_path / "home"))
        nginx = await stack.enter_async_context(nginx_before(running.http, running.address))
        handler = await stack.enter_async_context(BareHandler(running))
        await handler.attach()
        guest = await stack.enter_async_context(Visitor(nginx.http))
        await guest.surely("POST", "/auth/guest")
        opened = await guest.surely("POST", "/v1/sessions", {})
        session = opened["session"]["session_id"]
        for _ in range(_LONG_MESSAGES):
            body = {"text": "x" * 250_000, "request_id": request_id()}
            await guest.surely("POST", f"/v1/sessions/{session}/messages", body)
        cookies = "; ".join(f"{name}={value}" for name, value in guest.client.cookies.items())
        read = await _read_slowly(
            nginx.http, f"/apps/support/v1/sessions/{session}/events", cookies, b'"snapshot"'
        )
        words = nginx.words()
    report(f"{read / 1e6:.1f} MB read slowly through nginx, nothing of it piled up there")
    assert read > _LONG_MESSAGES * 250_000
    assert "upstream response is buffered to a temporary file" not in words


async def _read_slowly(http: str, path: str, cookies: str, end: bytes) -> int:
    """Reads a response until some words come; returns how many bytes that were."""
    raw = socket.socket()
    raw.setblocking(False)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    await asyncio.get_running_loop().sock_connect(raw, _place(http.removeprefix("http://")))
    reader, writer = await asyncio.open_connection(sock=raw, limit=16_384)
    count, last = 0, b""
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\n\r\n"
        writer.write(head.encode())
        while end not in last:
            await asyncio.sleep(0.002)  # this is what slow means
            data = await asyncio.wait_for(reader.read(16_384), 20)
            assert data, f"the response ended after {count} bytes"
            count += len(data)
            last = last[-len(end) :] + data
    finally:
        writer.close()
    return count


async def test_the_terminal_chat_goes_on_behind_an_nginx_that_ends_idle_lines(
    tmp_path: Path,
) -> None:
    idle = 0.5
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_sidecar(tmp_path / "home"))
        nginx = await stack.enter_async_context(
            nginx_before(running.http, running.address, idle=idle)
        )
        ada = await stack.enter_async_context(Person(running))
        access = Access(nginx.grpc, running.token, "the test")
        link = await stack.enter_async_context(ChatLink(access, "support", ada.identity))
        session = await link.open_session()
        offsets: list[int] = []

        async def follow() -> None:
            after = lambda: offsets[-1] if offsets else 0  # noqa: E731 - what it has read by then
            async with aclosing(link.follow(session, after)) as batches:
                async for frames in batches:
                    offsets.extend(f.event.offset for f in frames if f.HasField("event"))

        following = asyncio.create_task(follow())
        for number in range(3):
            await eventually(
                lambda: following.done() or nginx.timeouts() > number,  # noqa: B023 - asked at once
                message="nginx ends the line",
            )
            sent = await link.send(session, f"hello {number}")
            await eventually(
                lambda: following.done() or offsets[-1:] == [sent],  # noqa: B023 - as above
                message="the chat goes on",
            )
            assert not following.done(), following.exception()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert offsets == [1, 2, 3, 4]


@pytest.mark.deadline(180)
async def test_behind_a_proxy_that_cuts_delays_truncates_and_is_silent_nothing_is_lost_or_repeated(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    done: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        timing = _TIMING | {"CAPSULE_TIMING__FOLLOW_BEAT": "1s"}
        sidecar = SidecarProcess(tmp_path / "home", steady_port(), steady_port(), timing)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        proxies = [
            await stack.enter_async_context(FaultProxy(*_place(address)))
            for address in (running.http.removeprefix("http://"), running.address)
        ]
        behind = replace(running, http=proxies[0].http, address=proxies[1].address)
        handlers = await stack.enter_async_context(Handlers(behind, tmp_path, pace=0.03))
        await (await handlers.start()).attached()
        audience = await stack.enter_async_context(
            Audience(behind, seed, visitors=4, others=2, patience=_PATIENCE)
        )
        # Each kind a few times, so that none depends on luck; when and how much does.
        faults = ["cut", "truncate", "delay", "silence", "long silence"] * _ROUNDS
        choice.shuffle(faults)
        for fault in faults:
            await asyncio.sleep(choice.uniform(0.1, 0.6))  # the random point
            await _happens(proxies, fault, choice)
            done[fault] += 1
        for proxy in proxies:
            await proxy.restore()
        figures, compared = await audience.agree(handlers)
        truncated = sum(proxy.truncated for proxy in proxies)
        accepted = sum(proxy.accepted for proxy in proxies)
        ends = Counter[str]()
        for reader in audience.readers:
            ends += reader.ends
    report(
        f"{dict(done)} on both sides, {truncated} answers truncated, {accepted} connections;"
        f" {ends[_IN_THE_MIDDLE]} event streams ended in the middle of an event; {compared} texts"
        f" seen growing became their message; {time.monotonic() - began:.0f} s"
    )
    report(audience.losses())
    report(str(figures))
    assert truncated == _ROUNDS * len(proxies)
    assert ends["ReadTimeout"] > 0, "no reader was left without a beat for long"
    assert compared > 0
    assert sum(visitor.person.failures.total() for visitor in audience.visitors) > 0


async def _happens(proxies: Sequence[FaultProxy], fault: str, choice: random.Random) -> None:
    """Lets a fault come, last and go."""
    truncated = [proxy.truncated for proxy in proxies]
    for proxy in proxies:
        match fault:
            case "cut":
                proxy.cut()
            case "truncate":
                proxy.truncate(choice.randint(1, 3_000))
            case "delay":
                proxy.delay = choice.uniform(0.02, 0.2)
                proxy.rate = choice.choice((0, 20_000))
            case _:
                proxy.silence()
    match fault:
        case "cut":
            return
        case "truncate":
            await eventually(
                lambda: all(p.truncated > n for p, n in zip(proxies, truncated, strict=True)),
                timeout=30, message="an answer is truncated on both sides",
            )  # fmt: skip
            return
        case "long silence":
            await asyncio.sleep(choice.uniform(1.2, 1.5) * _PATIENCE)
        case _:
            await asyncio.sleep(choice.uniform(0.3, 1.5))
    for proxy in proxies:
        if fault != "delay" and choice.random() < 0.5:
            proxy.cut()  # what was held back never comes
        await proxy.restore()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)

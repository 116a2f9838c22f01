"""What one visitor may take of what all share: memory for bodies, changes, streams, open files."""

from __future__ import annotations

import asyncio
import resource
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from capsule_sidecar.web.server import _room
from tests.integration.test_http_slow import resident
from tests.support.eventually import eventually
from tests.support.http import Answer, Browser, Line, problem, served
from tests.support.sidecar import FAST, BareHandler, SidecarProcess

MIB = 1 << 20
ALMOST = 2 * MIB - 1024


@pytest.mark.deadline(120)
async def test_bodies_that_never_end_hold_no_more_than_their_share(tmp_path: Path) -> None:
    timing = FAST | {"body_timeout": 100.0}  # what is held stays held
    async with (
        served(tmp_path, timing=timing) as (running, _),
        Browser(running) as me,
        AsyncExitStack() as stack,
    ):
        session = await me.open()
        head = (
            f"POST {me.v1}/sessions/{session}/messages HTTP/1.1\r\nHost: HOST\r\n"
            f"Cookie: capsule_{me.app}={me.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {ALMOST + 1}\r\n\r\n"
        )
        before = resident()
        asked: list[asyncio.Task[Answer | None]] = []
        for _ in range(40):
            line = await stack.enter_async_context(Line(running))
            asked.append(asyncio.create_task(_sent(line, head)))
            # Most are answered by then; those that are not are being read, and waited for.
            await asyncio.wait(asked[-1:], timeout=0.2)

        def refused() -> list[Answer | None]:
            return [one.result() for one in asked if one.done()]

        await eventually(lambda: len(refused()) >= 40 - 16 * MIB // ALMOST - 1, timeout=15)
        for answer in refused():
            if answer is not None:
                assert (answer.status, answer.reason) == (503, "BUSY")
                assert answer.headers["retry-after"] == "2"
        assert resident() - before < 64 * MIB
        # What people type goes through all the while.
        await me.say(session, "hello " * 1_000)
        assert not all(one.done() for one in asked), "some are held still"
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _sent(line: Line, head: str) -> Answer | None:
    """Sends all but the last byte of a body; None: it was cut while it was still being sent."""
    try:
        await line.send(head)
        await line.send(b" " * ALMOST)
        return await line.answer(timeout=100)
    except (ConnectionError, asyncio.IncompleteReadError):
        return None


async def test_nobody_sends_much_before_they_are_known(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        response = await me.post("/sessions", title="x" * 20_000)
        problem(response, 413, "LIMIT_EXCEEDED")
        response = await me.http.post(f"{me.v1}/sessions/ses_x/messages", content=b"{" * MIB)
        problem(response, 401, "UNAUTHENTICATED")


async def test_changes_have_a_rate(tmp_path: Path) -> None:
    limits = {"changes_per_minute": 3}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        session = await me.open()
        for number in range(3):
            answer = await me.patch(f"/sessions/{session}", title=f"title {number}")
            assert answer.status_code == 200
        for refused in (
            await me.patch(f"/sessions/{session}", title="one more"),
            await me.post(f"/sessions/{session}/stop"),
            await me.delete(f"/sessions/{session}"),
        ):
            problem(refused, 429, "RATE_LIMITED")
            assert int(refused.headers["retry-after"]) > 0


async def test_a_stream_ends_when_its_reader_has_signed_out(tmp_path: Path) -> None:
    timing = FAST | {"follow_beat": 0.4}
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        async with me.follow() as events:
            await events.live()
            token = me.token
            response = await me.http.post(f"{me.root}/auth/sign-out")
            assert response.status_code == 204
            assert token
            error = await events.ends()
            assert error is not None
            assert error["reason"] == "UNAUTHENTICATED"


async def test_readers_hear_of_a_sidecar_that_drains(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "300"
        process.environment["CAPSULE_TIMING__FOLLOW_BEAT"] = "200ms"
        running = await process.start()
        async with BareHandler(running) as handler, Browser(running) as me:
            await handler.attach()
            session = await me.open()
            await me.say(session, "work")
            work = await handler.work()
            async with me.follow(session) as events:
                await events.live()
                end = asyncio.create_task(process.end(signal.SIGTERM))
                await handler.gets("drain")
                heard = len(events.comments)
                await eventually(lambda: len(events.comments) >= heard + 3, timeout=15)
                await handler.finish(work)
                error = await events.ends()
                assert error is not None
                assert error["reason"] == "SHUTTING_DOWN"
            assert await end == 0


async def test_more_connections_than_files_are_refused_and_not_reset(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with SidecarProcess(tmp_path) as process, AsyncExitStack() as stack:
        running = await process.start()
        assert process.process is not None
        allowed = resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE)
        assert allowed[0] == min(hard, 65_536)  # raised from what a shell gives
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 600), hard))
        try:
            room = min(soft, 600) - 256 if soft >= 512 else soft // 2
            assert _room(0) == room
            assert _room(32) == max(room - 32, min(soft, 600) // 2), "room for what is sent"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        lines = [await stack.enter_async_context(Line(running)) for _ in range(300)]
        await lines[-1].send("GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert (await lines[-1].answer()).status == 200

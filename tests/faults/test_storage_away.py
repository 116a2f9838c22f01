"""Case 4, in part: the disk is full, the database is locked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from capsule_protocol.v1 import session_service_pb2, types_pb2
from tests.faults.conftest import Report
from tests.faults.troubles import FileLimit, Lock, Trouble, integrity
from tests.support.eventually import eventually
from tests.support.ports import steady_port
from tests.support.sidecar import (
    BareHandler,
    Follow,
    Person,
    Refusal,
    Running,
    SidecarProcess,
    refusal_of,
    request_id,
)

_BIG = "x" * 100_000
_TIMING = {
    # Nothing that a handler holds is lost to a beat that cannot be written.
    "CAPSULE_TIMING__LEASE_TERM": "120s",
    "CAPSULE_TIMING__FRESH_BEAT": "120s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "200ms",
}
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Scene:
    """A sidecar in trouble, and what was asked of it."""

    sidecar: SidecarProcess
    running: Running
    ada: Person
    session: str
    acknowledged: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    async def say(self, text: str, request: str = "") -> Refusal | None:
        """Sends a message; returns the refusal, if it was refused."""
        request = request or request_id()
        refusal = await _refusal(self.ada.say(self.session, text, request_id=request))
        if refusal is None:
            self.acknowledged.append(text)
        else:
            self.refused.append((request, text))
        return refusal

    async def health(self) -> int:
        """Returns what the sidecar says of itself to whoever asks."""
        async with grpc.aio.insecure_channel(self.running.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            found = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
            return int(found.status)

    async def healthy(self, status: int) -> None:
        """Waits until it says so."""

        async def says() -> bool:
            return await self.health() == status

        await eventually(says, timeout=30, interval=0.1, message=f"health {status}")

    async def _read(self) -> Follow | None:
        """Returns a follower that has read the log; None where storage kept it from that."""
        async with await self.ada.follow(self.session) as follow:
            await eventually(
                lambda: follow.error or any(frame.snapshot.last for frame in follow.frames),
                timeout=30, message="the snapshot or an error",
            )  # fmt: skip
        if follow.error is None:
            return follow
        refusal = refusal_of(follow.error)
        assert refusal.reason == "STORAGE_UNAVAILABLE", refusal
        return None

    async def said(self, sender: int = types_pb2.SENDER_USER) -> list[str]:
        """Returns somebody's texts in the log, whose offsets it checks."""
        follow = await eventually(self._read, timeout=30, message="the log is read")
        assert follow is not None
        events = follow.events
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        messages = [e.message_added.message for e in events if e.HasField("message_added")]
        return [m.text for m in messages if m.sender == sender]


async def _refusal(call: Awaitable[Any]) -> Refusal | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@asynccontextmanager
async def _scene(home: Path) -> AsyncIterator[Scene]:
    async with SidecarProcess(home, steady_port(), steady_port(), _TIMING) as sidecar:
        running = await sidecar.start()
        async with Person(running) as ada:
            scene = Scene(sidecar, running, ada, await ada.open())
            for number in range(3):
                assert await scene.say(f"before {number}") is None
            yield scene


async def _until_refused(attempt: Callable[[int], Awaitable[Refusal | None]]) -> Refusal:
    """Tries until it is refused: what space is left has to be used up first."""
    for number in range(400):
        refusal = await attempt(number)
        if refusal is not None:
            return refusal
    raise AssertionError("nothing was refused")


@pytest.mark.deadline(120)
async def test_storage_that_goes_away_is_said_so_and_nothing_is_half_written(
    tmp_path: Path, trouble: Trouble, report: Report
) -> None:
    home = tmp_path / "home"
    async with _scene(home) as scene, BareHandler(scene.running) as handler:
        await handler.attach()
        work = await handler.work()

        async def reply(text: str, request: str) -> Refusal | None:
            asked = session_service_pb2.ReplyRequest(
                invocation_id=work.invocation_id,
                attempt=work.attempt,
                request_id=request,
                text=text,
            )
            call = handler.sessions.Reply(asked, metadata=handler.metadata, timeout=20)
            return await _refusal(call)

        assert await reply("an answer", request_id()) is None
        trouble.begin(scene.sidecar)
        try:
            refusal = await _until_refused(lambda n: scene.say(f"during {n} {_BIG}"))
            assert refusal.code == grpc.StatusCode.UNAVAILABLE
            assert refusal.reason == "STORAGE_UNAVAILABLE"
            assert "nothing was written" in refusal.message
            late = request_id()
            refusal = await _until_refused(lambda n: reply(_BIG, late if n else request_id()))
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "STORAGE_UNAVAILABLE",
            )
            await scene.healthy(_NOT_SERVING)
            # What is stored can be read all the same.
            page = await scene.ada.texts(scene.session)
            assert page
            assert set(page) <= {*scene.acknowledged, "an answer"}
        finally:
            trouble.end()
        # It finds out by itself.
        await scene.healthy(_SERVING)
        assert await scene.said() == scene.acknowledged
        again, scene.refused = scene.refused, []
        for request, text in again:
            assert await scene.say(text, request) is None
            assert await scene.say(text, request) is None
            scene.acknowledged.pop()  # the second time it was only answered again
        assert await reply("and another", request_id()) is None
        await handler.finish(work)
        await handler.gets("outcome_ack")
        assert await scene.say("after") is None
        assert await scene.said() == scene.acknowledged
        await scene.sidecar.kill()
        assert integrity(home) == "ok"
        await scene.sidecar.start()
        assert await scene.said() == scene.acknowledged
        assert await scene.said(types_pb2.SENDER_APP) == ["an answer", "and another"]
        report(
            f"{len(scene.acknowledged)} messages acknowledged, all there once; {len(again)} refused"
            " and taken when sent again"
        )


@pytest.mark.deadline(120)
async def test_a_sidecar_that_nobody_works_for_stays_unready_while_its_disk_is_full(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    limit = FileLimit()
    async with _scene(home) as scene:
        limit.begin(scene.sidecar)
        await _until_refused(lambda n: scene.say(f"during {n} {_BIG}"))
        await scene.healthy(_NOT_SERVING)
        seen = []
        for _ in range(20):  # while sweeps and followers come and go, which write nothing
            await scene.said()
            seen.append(await scene.health())
            await asyncio.sleep(0.1)  # the figures of two seconds
        assert set(seen) == {_NOT_SERVING}
        limit.end()
        await scene.healthy(_SERVING)
        assert await scene.say("after") is None


@pytest.mark.parametrize("cause", ["lock", "no room"])
async def test_a_sidecar_that_cannot_open_its_storage_says_so_in_one_line(
    tmp_path: Path, cause: str
) -> None:
    home = tmp_path / "home"
    lock = Lock(home)
    limit = "unlimited"
    if cause == "lock":
        async with SidecarProcess(home) as sidecar:
            await sidecar.start()
            lock.begin(sidecar)
    else:
        limit = "64"  # blocks of 512 bytes that a file may have: less than the schema takes
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f'ulimit -f {limit} && exec "$@"', "sh",
        str(Path(sys.executable).with_name("capsule-sidecar")),
        "serve", "--home", str(home), "--grpc", "127.0.0.1:0",
        "--http", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, said = await asyncio.wait_for(process.communicate(), 40)
    if cause == "lock":
        lock.end()
    assert (process.returncode, out) == (1, b"")
    (line,) = said.decode().splitlines()
    assert line.startswith("storage cannot be opened: "), line

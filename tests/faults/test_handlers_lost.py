"""Case 2: handler processes are killed, frozen and cut off while they work."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2
from tests.faults import script
from tests.faults.checker import check
from tests.faults.conftest import Report
from tests.faults.people import Talk
from tests.faults.processes import HandlerProcess, Handlers, Proxy
from tests.support.eventually import eventually
from tests.support.sidecar import (
    BareHandler,
    Follow,
    Person,
    SidecarProcess,
    refused,
    request_id,
)

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "12"))
_PEOPLE = 8
_PROCESSES = 3
_TERM = 2.0  # seconds of a lease
_TIMING = {
    "CAPSULE_TIMING__LEASE_TERM": f"{_TERM}s",
    "CAPSULE_TIMING__BEAT_INTERVAL": "300ms",
    "CAPSULE_TIMING__FRESH_BEAT": "1s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "200ms",
    "CAPSULE_TIMING__MAX_ATTEMPTS": "20",
    "CAPSULE_LIMITS__WAITING_MESSAGES": "5",
}


@pytest.mark.deadline(200)
async def test_work_of_killed_frozen_and_cut_off_handlers_has_one_outcome(
    tmp_path: Path, report: Report, seed: str
) -> None:
    choice = random.Random(seed)
    began = time.monotonic()
    done: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", environment=_TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        proxies = [
            await stack.enter_async_context(Proxy(running.address)) for _ in range(_PROCESSES)
        ]
        processes = [await handlers.start(proxy.address) for proxy in proxies]
        for process in processes:
            await process.attached()
        talks = [
            await stack.enter_async_context(Talk(running, f"p{number}", seed))
            for number in range(_PEOPLE)
        ]

        async def kill(victim: int) -> None:
            await processes[victim].kill()
            processes[victim] = await handlers.start(proxies[victim].address)

        async def freeze(victim: int) -> None:
            processes[victim].freeze()
            await asyncio.sleep(_TERM * choice.uniform(1.2, 1.8))  # beyond its leases
            processes[victim].thaw()

        async def cut(victim: int) -> None:
            proxies[victim].cut()

        async def cut_off(victim: int) -> None:
            proxies[victim].refusing = True
            proxies[victim].cut()
            await asyncio.sleep(_TERM * choice.uniform(1.2, 1.8))  # beyond its leases
            proxies[victim].refusing = False

        faults = [kill, freeze, cut, cut_off]
        for number in range(_ROUNDS):
            await asyncio.sleep(choice.uniform(0.05, 0.6))  # the random point
            fault = faults[number % len(faults)]
            await fault(choice.randrange(_PROCESSES))
            done[fault.__name__] = done.get(fault.__name__, 0) + 1
        for talk in talks:
            await talk.finish()
        assert not handlers.surprises()
        figures = await check(talks, handlers.notes())
    took = time.monotonic() - began
    report(f"{', '.join(f'{count} x {name}' for name, count in done.items())}; {took:.0f} s")
    report(str(figures))
    assert figures.delivered_again > 0
    assert figures.withdrawn > 0


@pytest.mark.parametrize("fault", ["frozen", "killed", "cut off"])
async def test_a_superseded_attempt_writes_nothing(
    tmp_path: Path, report: Report, fault: str
) -> None:
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", environment=_TIMING)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        proxy = await stack.enter_async_context(Proxy(running.address))
        ada = await stack.enter_async_context(Person(running))
        first = await handlers.start(proxy.address)
        await first.attached()
        session = await ada.open()
        follow = await stack.enter_async_context(await ada.follow(session))
        text = "m reply stream tagged hold:gate tagged stream"
        sent = await ada.say(session, text)
        await handlers.noted("held", attempt=1)
        # The second has a line of its own and waits at the same gate.
        second = await handlers.start()
        await second.attached()
        lose, come_back = _fault(fault, first, proxy)
        lose()
        await handlers.noted("held", attempt=2, pid=second.pid)
        zombie = await stack.enter_async_context(BareHandler(running))
        stream_id = _streams(follow)[0]
        tried = await _refused_writes(zombie, sent.invocation_id, stream_id)
        handlers.open_gate("gate")
        come_back()
        await follow.sees("invocation_ended", 2, timeout=30)
        if fault != "killed":
            await eventually(
                lambda: [n for n in handlers.notes() if n["pid"] == first.pid][-1]["what"]
                == "cancelled",
                timeout=30, message="the first process ends its handler",
            )  # fmt: skip
            # Its client is back in order: it takes the next turn when the other is gone.
            await second.kill()
            await ada.say(session, "n reply")
            await follow.sees("invocation_ended", 3, timeout=30)
        texts = await ada.texts(session)
        assert texts[:6] == [
            text,
            script.reply_text("m", 0),
            "".join(script.pieces("m", 1)),
            script.tagged_text("m", 2, 1),
            script.tagged_text("m", 2, 2),
            script.tagged_text("m", 4, 2),
        ]
        assert texts[6] == "".join(script.pieces("m", 5))
        assert texts[7:] == ([] if fault == "killed" else ["n reply", script.reply_text("n", 0)])
        ends = [e for e in follow.events if e.WhichOneof("kind") == "invocation_ended"]
        assert [e.invocation_ended.attempts for e in ends][1] == 2
        report(f"{tried} writes of attempt 1 refused while attempt 2 ran, {len(ends)} outcomes")


def _fault(
    fault: str, process: HandlerProcess, proxy: Proxy
) -> tuple[Callable[[], None], Callable[[], None]]:
    def cut_off() -> None:
        proxy.refusing = True
        proxy.cut()

    def back_on() -> None:
        proxy.refusing = False

    return {
        "frozen": (process.freeze, process.thaw),
        "killed": (process.process.kill, lambda: None),
        "cut off": (cut_off, back_on),
    }[fault]


def _streams(follow: Follow) -> list[str]:
    return [
        event.stream_opened.stream_id
        for event in follow.events
        if event.WhichOneof("kind") == "stream_opened"
    ]


async def _refused_writes(zombie: BareHandler, invocation_id: str, stream_id: str) -> int:
    """Tries every write under the first attempt, as a process would that knows nothing."""
    pb = session_service_pb2
    head: dict[str, Any] = {"invocation_id": invocation_id, "attempt": 1}
    own: dict[str, Any] = head | {"request_id": request_id()}
    writes: list[tuple[str, Any]] = [
        ("Reply", pb.ReplyRequest(**own, text="from the past")),
        ("OpenStream", pb.OpenStreamRequest(**own)),
        ("CloseStream", pb.CloseStreamRequest(**own, stream_id=request_id())),
        ("SetTitle", pb.SetTitleRequest(**own, title="from the past")),
        ("UpdateData", pb.UpdateDataRequest(**own)),
        ("Notify", pb.NotifyRequest(**head, text="from the past")),
    ]
    for method, request in writes:
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "SUPERSEDED"):
            call: Callable[..., Awaitable[Any]] = getattr(zombie.sessions, method)
            await call(request, metadata=zombie.metadata, timeout=15)
    # The stream is complete, so here that comes first; it takes no text either way.
    append = pb.AppendStreamRequest(**head, stream_id=stream_id, text="from the past")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "STREAM_CLOSED"):
        await zombie.sessions.AppendStream(append, metadata=zombie.metadata, timeout=15)
    # An outcome is acknowledged, and applies nothing.
    await zombie.attach(concurrency=1, declarations=handler_service_pb2.Declarations())
    outcome = handler_service_pb2.Invocation(invocation_id=invocation_id, attempt=1)
    await zombie.finish(outcome)
    await zombie.gets("outcome_ack")
    await zombie.drop()
    return len(writes) + 2


async def test_a_line_that_is_cut_for_a_moment_costs_the_turn_nothing(
    tmp_path: Path, report: Report
) -> None:
    cuts = 5
    timing = _TIMING | {"CAPSULE_TIMING__LEASE_TERM": "20s"}
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(tmp_path / "home", environment=timing)
        await stack.enter_async_context(sidecar)
        running = await sidecar.start()
        handlers = await stack.enter_async_context(Handlers(running, tmp_path, pace=0.05))
        proxy = await stack.enter_async_context(Proxy(running.address))
        ada = await stack.enter_async_context(Person(running))
        await (await handlers.start(proxy.address)).attached()
        session = await ada.open()
        follow = await stack.enter_async_context(await ada.follow(session))
        text = "m reply stream stream stream hold:gate stream reply"
        await ada.say(session, text)
        for number in range(cuts):
            if number == cuts - 1:
                await handlers.noted("held", attempt=1)
            else:
                await follow.sees("stream_opened", number // 2 + 1)
            assert await eventually(proxy.cut, message="there is a line to cut")
        handlers.open_gate("gate")
        ended = await follow.sees("invocation_ended", 2, timeout=30)
        assert ended.invocation_ended.attempts == 1
        written = [what.text for what in script.expected(text)]
        assert await ada.texts(session) == [text, *written]
        report(f"{cuts} cuts, 1 attempt, {len(written)} replies")

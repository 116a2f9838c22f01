"""Case 0: durability is real. What is acknowledged has been flushed to the disk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from capsule_protocol.v1 import session_service_pb2
from tests.faults import flushes
from tests.faults.conftest import Report
from tests.support.sidecar import BareHandler, Person, SidecarProcess, request_id

_COMMANDS = 200
_UNARY = 50
_MESSAGES = 50
# No beat of a process and few sweeps: nearly every flush is one that somebody waits for.
_QUIET = {
    "CAPSULE_TIMING__LEASE_TERM": "60s",
    "CAPSULE_TIMING__FRESH_BEAT": "60s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "1s",
}

Write = Callable[[str], Awaitable[Any]]


async def test_each_acknowledgement_comes_after_a_flush_of_what_it_acknowledges(
    tmp_path: Path, report: Report
) -> None:
    library = flushes.build(tmp_path)
    if isinstance(library, str):
        pytest.skip(library)
    trace = tmp_path / "trace"
    environment = _QUIET | flushes.variables(library, trace)
    acknowledged: list[tuple[int, int]] = []  # when it was asked for, when it was acknowledged

    async def one_at_a_time(count: int, write: Write) -> None:
        for _ in range(count):
            asked = time.monotonic_ns()
            await write(flushes.text(len(acknowledged)))
            acknowledged.append((asked, time.monotonic_ns()))

    async with SidecarProcess(tmp_path / "home", environment=environment) as process:
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach(beats=False)
            session = await ada.open()
            await ada.say(session, "go on")
            work = await handler.work()

            def reply(text: str) -> session_service_pb2.ReplyRequest:
                return session_service_pb2.ReplyRequest(
                    invocation_id=work.invocation_id,
                    attempt=work.attempt,
                    request_id=request_id(),
                    text=text,
                )

            async def command(text: str) -> None:
                result = await handler.result(await handler.command(reply=reply(text)))
                assert not result.HasField("error"), result

            async def unary(text: str) -> None:
                await handler.sessions.Reply(reply(text), metadata=handler.metadata, timeout=20)

            async def message(text: str) -> None:
                await ada.say(session, text)

            await one_at_a_time(_COMMANDS, command)
            await one_at_a_time(_UNARY, unary)
            await one_at_a_time(_MESSAGES, message)

    noted = [call for call in flushes.read(trace) if call.path.endswith("-wal")]
    took = []
    for number, (asked, told) in enumerate(acknowledged):
        inside = [call for call in noted if call.begin >= asked and call.end <= told]
        writes = [call for call in inside if call.kind == "W" and call.number >= number]
        assert writes, f"reply {number} was acknowledged and not even written"
        flushed = [
            call
            for call in inside
            if call.kind == "F" and call.number == 0 and call.begin >= writes[0].end
        ]
        assert flushed, f"reply {number} was acknowledged without a flush after its writing"
        took.append((flushed[0].end - flushed[0].begin) / 1e6)
    total = sum(call.kind == "F" for call in noted)
    report(
        f"{len(acknowledged)} acknowledgements ({_COMMANDS} by command, {_UNARY} unary,"
        f" {_MESSAGES} user messages), each behind a flush of its own writing;"
        f" {total} flushes of the log in all, median {statistics.median(took):.2f} ms"
    )

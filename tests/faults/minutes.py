"""The minutes of a sidecar whose clock is put forward, and the ticks that they must have had."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import admin_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.sidecar import Person, Running

MINUTE = 60_000
_UNENDED = (types_pb2.INVOCATION_STATUS_QUEUED, types_pb2.INVOCATION_STATUS_RUNNING)


@dataclass
class Tick:
    """A tick as it is stored: times in milliseconds."""

    at: int
    made: int
    ended: int


@dataclass
class Minutes:
    """Puts the clock of a sidecar forward, and again after each restart, which forgets it.

    Attributes:
        running: The sidecar.
        ahead: How far it is to be, in milliseconds.
        jumps: From when to when the time went in which nothing swept.
    """

    running: Running
    ahead: int = 0
    jumps: list[tuple[int, int]] = field(default_factory=list)
    _before: int = 0

    def now(self) -> int:
        """Returns the time that the sidecar has, or is to have."""
        return time.time_ns() // 1_000_000 + self.ahead

    def leave(self) -> None:
        """Notes the time, from which on nothing may sweep."""
        self._before = self._before or self.now()

    async def pass_one(self) -> None:
        """Lets a minute pass. Cancelled by a kill, it has passed when `arrive` is called."""
        self.leave()
        self.ahead += MINUTE
        await self._advance(MINUTE)
        self._arrived()

    async def arrive(self) -> None:
        """Puts a sidecar that has just begun where it is to be."""
        if self.ahead:
            await self._advance(self.ahead)
        self._arrived()

    async def quiet(self) -> None:
        """Waits until every tick has ended: else the next would join it in the queue."""
        await eventually(
            self._none, timeout=30, interval=0.05, message="the ticks that are there have ended"
        )

    async def _none(self) -> bool:
        async with Person(self.running) as operator:
            request = admin_service_pb2.ListInvocationsRequest(
                app="support", kind=types_pb2.INVOCATION_KIND_SCHEDULE, page_size=20
            )
            page = await operator.admin.ListInvocations(
                request, metadata=operator.metadata, timeout=10
            )
            return not any(info.status in _UNENDED for info in page.invocations)

    async def _advance(self, by: int) -> None:
        span = Duration()
        span.FromMilliseconds(by)
        request = admin_service_pb2.AdvanceClockRequest(by=span)
        async with Person(self.running) as operator:
            await operator.admin.AdvanceClock(request, metadata=operator.metadata, timeout=20)

    def _arrived(self) -> None:
        self.jumps.append((self._before, self.now()))
        self._before = 0

    def compare(self, declared: tuple[int, int], ticks: list[Tick]) -> str:
        """Checks that each minute has had its tick, once; returns the figures.

        Args:
            declared: The times between which the schedule was declared: a minute that began between
                them may have had a tick.
            ticks: All that are stored.

        A minute may be without one where time passed it and a later one at once (the latest of what
        was missed runs), and where a tick before it had not ended.
        """
        found = Counter(tick.at for tick in ticks)
        twice = [at for at, count in found.items() if count > 1]
        assert not twice, f"ticks for the same time: {twice}"
        last = max(found)
        first, expected = (
            range(when // MINUTE * MINUTE + MINUTE, last + 1, MINUTE) for when in declared
        )
        strange = found.keys() - set(first)
        assert not strange, f"ticks for no minute after {declared[0]}: {strange}"
        passed = joined = 0
        for at in expected:
            if at in found:
                continue
            if any(before < at and at + MINUTE <= after for before, after in self.jumps):
                passed += 1
                continue
            assert any(tick.at < at <= max(tick.ended, tick.made) for tick in ticks), (
                f"no tick for {at}, nor a reason"
            )
            joined += 1
        # What came last is not forgotten either.
        assert self.now() - last < 2 * MINUTE
        return (
            f"{len(found)} ticks of {len(expected)} minutes, {passed} passed over as others were"
            f" later, {joined} while one was queued"
        )


async def lost(call: asyncio.Task[None]) -> None:
    """Ends a call whose sidecar was killed."""
    call.cancel()
    (found,) = await asyncio.gather(call, return_exceptions=True)
    assert found is None or isinstance(found, asyncio.CancelledError | grpc.aio.AioRpcError), found

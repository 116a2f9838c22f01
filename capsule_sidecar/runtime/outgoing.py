"""Work on its way to the processes that hold it."""

from __future__ import annotations

import asyncio
import logging

from capsule_sidecar.model.errors import Replaced
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.delivery import Deliveries
from capsule_sidecar.runtime.processes import Process
from capsule_sidecar.storage.commits import Leased

logger = logging.getLogger("capsule.dispatcher")


class Outgoing:
    """Sends work that was leased, in the order in which it comes.

    Args:
        deliveries: Encodes it.
    """

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._waiting: list[tuple[Process, Leased]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, process: Process, leased: Leased) -> None:
        """Send work; what must be read for is read together with what else comes now."""
        process.running.add(Lease(leased.invocation.key, leased.attempt))
        frame = self._deliveries.frame_now(leased)
        if frame is not None:
            process.line.outbox.put(frame, always=True)
            return
        self._waiting.append((process, leased))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        outgoing, self._waiting = self._waiting, []
        task = asyncio.create_task(self._send(outgoing), name="deliver")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, outgoing: list[tuple[Process, Leased]]) -> None:
        try:
            frames = await self._deliveries.frames([leased for _, leased in outgoing])
        except Exception:
            # Storage or a defect, the leases stand: a process gets them when it attaches again,
            # or somebody else does when their term is over.
            logger.exception("work could not be read")
            for process, _ in outgoing:
                process.line.outbox.fail(Replaced("work could not be delivered; attach again"))
            return
        for (process, _), frame in zip(outgoing, frames, strict=True):
            if frame is not None:  # else the session was deleted; its notice is on the way
                process.line.outbox.put(frame, always=True)

    async def close(self) -> None:
        """End what is still being sent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

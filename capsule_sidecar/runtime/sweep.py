"""The sweep: what time brings about, looked for at short intervals."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from capsule_sidecar.config import Timing
from capsule_sidecar.model.errors import DomainError
from capsule_sidecar.runtime.dispatcher import Dispatcher
from capsule_sidecar.storage import expiry, jobs, leases, offers
from capsule_sidecar.storage.database import EVERY_APP
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.slots import Slots

logger = logging.getLogger("capsule.sweep")

# Recorded requests, and jobs, that one sweep looks at, and the pause after all were looked at.
_WALKED_ROWS = 1_000
_WALK_SECONDS = 600.0
# Sessions that one sweep looks at where they expire, and the pause after all were looked at.
_EXPIRY_ROWS = 100
_EXPIRY_SECONDS = 60.0


class Sweep:
    """Ends leases and deadlines, lets prompts expire and tasks begin, makes ticks, forgets.

    Enter it with `async with`: it begins; leaving ends it.

    Args:
        journal: The log and the queue.
        dispatcher: The processes.
        slots: Their free places.
        timing: The intervals.
    """

    def __init__(
        self, journal: Journal, dispatcher: Dispatcher, slots: Slots, timing: Timing
    ) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._slots = slots
        self._interval = timing.sweep_interval
        self._walked_requests: tuple[int, bytes] = (-1, b"")
        self._walked_jobs = 0
        self._next_walk = 0.0
        self._ttl = timing.session_ttl
        self._walked_sessions = 0
        self._next_expiry = 0.0

    async def __aenter__(self) -> Sweep:
        self._task = asyncio.create_task(self._always(), name="sweep")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _always(self) -> None:
        while True:
            try:
                await self.once()
            except DomainError as error:
                logger.warning("the sweep is put off: %s", error.message)
            except Exception:
                # A defect here must not end the sweep: nothing would ever be delivered again.
                logger.exception("the sweep failed")
            await asyncio.sleep(self._interval)

    def wake(self) -> None:
        """Let the next sweep walk at once: the clock was put forward."""
        self._next_walk = self._next_expiry = 0.0

    async def once(self) -> None:
        """Do all that is due now.

        Raises:
            DomainError: It cannot be done now, as while storage is away.
        """
        sweep = partial(leases.sweep, texts=self._dispatcher.ending_texts())
        more = await self._journal.submit(EVERY_APP, sweep)
        while more:  # an operation for each page: others come between
            more = await self._journal.submit(EVERY_APP, leases.go_on)
        await self._tell_what_others_ended()
        if not self._journal.healthy:
            await self._journal.submit(0, leases.probe)
        await self._take_waiting()
        self._dispatcher.calls.wake_all()
        await self._expire()
        await self._forget()

    async def _take_waiting(self) -> None:
        """Look for work that nobody tells of.

        Another sidecar has queued it, or storage was away when it should have been given out.
        """
        alone = self._journal.database.exclusive
        for app in self._slots.apps():
            for process in self._slots.processes(app):
                if alone and not self._slots.backlog(process):
                    continue
                await self._journal.submit(
                    app, partial(offers.lease_ready, app=app, process=process)
                )

    async def _tell_what_others_ended(self) -> None:
        """Tell processes of what came of their work and its prompts by way of another sidecar."""
        if self._journal.database.exclusive:
            return
        for process in self._dispatcher.processes:
            found = await self._journal.submit(
                process.app, partial(leases.untold, process=process.number)
            )
            self._dispatcher.tell_untold(process, found)
            known = self._dispatcher.durable(process)
            if known:
                over, ending = await self._journal.submit(
                    process.app, partial(leases.overtaken, process=process.number, known=known)
                )
                self._dispatcher.tell_overtaken(process, over, ending)

    async def _expire(self) -> None:
        """Walk a page further through the sessions, where they expire at all."""
        if not self._ttl or time.monotonic() < self._next_expiry:
            return
        walked = await self._journal.submit(
            EVERY_APP,
            partial(expiry.expire_sessions, after=self._walked_sessions, rows=_EXPIRY_ROWS),
        )
        self._walked_sessions = walked or 0
        if walked is None:
            self._next_expiry = time.monotonic() + min(_EXPIRY_SECONDS, self._ttl / 4)

    async def _forget(self) -> None:
        """Walk a page further through what is kept for a time only."""
        if time.monotonic() < self._next_walk:
            return
        requests = await self._journal.submit(
            0, partial(leases.forget_requests, after=self._walked_requests, rows=_WALKED_ROWS)
        )
        walked = await self._journal.submit(
            0, partial(jobs.forget, after=self._walked_jobs, rows=_WALKED_ROWS)
        )
        self._walked_requests = requests or (-1, b"")
        self._walked_jobs = walked or 0
        if requests is None:
            # All requests were looked at: little can be stale before long. There are more of them
            # than of jobs, which are looked at as often.
            self._next_walk = time.monotonic() + _WALK_SECONDS

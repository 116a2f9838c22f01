"""What looks after the file store: whether it is in order, and what is to be removed from it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial

from capsule_sidecar.model.errors import DomainError, StorageUnavailable
from capsule_sidecar.storage import files
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.objects import ObjectStore

logger = logging.getLogger("capsule.files")

# What is removed at once, how often it is looked for, and when it is tried again where it failed:
# after twice the time whenever it failed again, so that it is in nobody's way.
_REMOVED = 100
_LOOK_SECONDS = 2.0
_AGAIN_SECONDS = 5.0
_LONGEST_AGAIN = 3600.0
# Whose failures are counted; of more, each is tried as if it had not failed before.
_COUNTED = 10_000
_PROBE_SECONDS = 1.0
# How long a request that the store failed waits to know whether it is the store or one file.
_DOUBT_SECONDS = 5.0


class Janitor:
    """Asks the store whether it is in order, and removes files. `async with` keeps it at work.

    Args:
        journal: Where files are known.
        objects: Where their bytes are.
        retention: Seconds that a file is kept which nobody uses.
    """

    def __init__(self, journal: Journal, objects: ObjectStore, retention: float) -> None:
        self._journal = journal
        self._objects = objects
        self._look = min(_LOOK_SECONDS, retention)
        self._due = asyncio.Event()
        self._healthy = True
        self._failures: dict[str, int] = {}
        self._probing: asyncio.Task[bool] | None = None
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Janitor:
        self._work = asyncio.create_task(self._keep_tidy(), name="file janitor")
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._work, self._probing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    @property
    def healthy(self) -> bool:
        """Whether the store was in order when it was last asked: only its probe says so."""
        return self._healthy

    def wake(self) -> None:
        """Let what is due be removed now."""
        self._due.set()

    async def doubt(self) -> bool:
        """See whether the store is in order, since it has just failed; False: it is not known."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DOUBT_SECONDS):
                return await self._probe()
        return False

    async def _probe(self) -> bool:
        """Ask the store, or wait for whoever asks it now."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._ask(), name="file store probe")
        return await asyncio.shield(self._probing)

    async def _ask(self) -> bool:
        try:
            await self._objects.probe()
        except StorageUnavailable:
            if self._healthy:
                logger.error("the file store does not answer or is full")
            self._healthy = False
            self._due.set()
            return False
        if not self._healthy:
            logger.info("the file store is in order again")
        self._healthy = True
        return True

    async def _keep_tidy(self) -> None:
        await self._probe()
        while True:
            self._due.clear()
            wait = _AGAIN_SECONDS
            try:
                if self._healthy:
                    wait = await self._remove_due()
                else:
                    await asyncio.sleep(_PROBE_SECONDS)
                    await self._probe()
            except Exception:
                # A defect must not end the janitor: nothing would be removed any more.
                logger.exception("files could not be looked after")
            if self._healthy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._due.wait()

    async def _remove_due(self) -> float:
        """Remove files whose time is over: objects first, rows last; return when to look again."""
        again = round(_AGAIN_SECONDS * 1000)
        try:
            while found := await self._journal.submit(
                0, partial(files.due, limit=_REMOVED, again_ms=again)
            ):
                gone: list[str] = []
                late: list[str] = []
                try:
                    for due in found:
                        if await self._remove(due.key):
                            (late if due.unfinished and self._objects.late else gone).append(
                                due.key
                            )
                        elif not self._healthy:
                            return _AGAIN_SECONDS
                finally:
                    # Also where the store has failed meanwhile: what went has gone.
                    if gone:
                        await self._journal.submit(0, partial(files.forget, keys=gone))
                    if late:
                        wait = round(self._objects.late * 1000)
                        await self._journal.submit(
                            0, partial(files.sweep_again, keys=late, after_ms=wait)
                        )
        except DomainError as error:
            logger.warning("files are removed later: %s", error.message)
            return _AGAIN_SECONDS
        return self._look

    async def _remove(self, key: str) -> bool:
        """Remove an object; tell whether it has gone. Else it is tried again, later each time."""
        try:
            await self._objects.delete(key)
        except StorageUnavailable as error:
            if not await self._probe():
                return False
            failures = self._failures.get(key, 0) + 1
            if key in self._failures or len(self._failures) < _COUNTED:
                self._failures[key] = failures
            delay = min(_AGAIN_SECONDS * 2**failures, _LONGEST_AGAIN)
            logger.warning(
                "file %s cannot be removed (%s); it is tried again in %d s",
                key, error.__cause__ or error, delay,
            )  # fmt: skip
            await self._journal.submit(
                0, partial(files.postpone, key=key, after_ms=round(delay * 1000))
            )
            return False
        self._failures.pop(key, None)
        return True

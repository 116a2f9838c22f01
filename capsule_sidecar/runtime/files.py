"""Files: uploaded, described, read, and removed when nobody needs them any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial

from sqlalchemy import Connection

from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import (
    DomainError,
    FileLost,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PlaceUnavailable,
    ShuttingDown,
    StorageUnavailable,
)
from capsule_sidecar.model.filenames import clean_name, media_type_of
from capsule_sidecar.model.ids import digest, new_id, parse_request_id
from capsule_sidecar.model.types import File, Lease
from capsule_sidecar.runtime.addresses import Addresses
from capsule_sidecar.runtime.conversations import Caller
from capsule_sidecar.runtime.janitor import Janitor
from capsule_sidecar.runtime.rates import Rate, Shares
from capsule_sidecar.runtime.taking import Taken, Upload, check_size
from capsule_sidecar.storage import files, reads, uploads, work
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.log import Person
from capsule_sidecar.storage.objects import ObjectMissing, ObjectStore
from capsule_sidecar.storage.requests import Method, Request, check_same
from capsule_sidecar.storage.unit import Unit
from capsule_sidecar.storage.uploads import Begun, Uploader

logger = logging.getLogger("capsule.files")

# How long after its time is over the row of an upload waits for whoever wrote it.
_LATE_SECONDS = 300.0


class Files:
    """What people and handlers do with files. `async with` keeps the store tidy.

    Args:
        journal: Where they are known.
        objects: Where their bytes are.
        addresses: Makes their addresses.
        limits: What is taken.
        timing: How long things last.
    """

    def __init__(
        self,
        journal: Journal,
        objects: ObjectStore,
        addresses: Addresses,
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._journal = journal
        self._objects = objects
        self.addresses = addresses
        self._limits = limits
        self._timing = timing
        self._rate = Rate("uploads", limits.uploads_per_minute)
        self._all = Shares("uploads", limits.uploads)
        self._mine = Shares("uploads of one person", limits.uploads_per_user)
        # Handlers have places of their own: whoever blocks those of people blocks no answer.
        self._handlers = Shares("uploads of handlers", limits.handler_uploads, retry_after=2)
        self._turns = Shares(
            "uploads of one invocation", limits.uploads_per_invocation, retry_after=1
        )
        self._served = Shares("downloads", limits.downloads, retry_after=2)
        self._networks = Shares(
            "downloads to this network", limits.downloads_per_network, retry_after=2
        )
        self._channels = Shares("downloads", limits.channel_downloads, retry_after=2)
        self._janitor = Janitor(journal, objects, timing.unused_file_retention)
        self._closed = False

    async def __aenter__(self) -> Files:
        if self._journal.database.exclusive:
            # Nobody else writes: what an earlier run was uploading is over,
            # and nothing is being uploaded yet.
            try:
                await self._journal.submit(0, files.drop_unfinished)
            except DomainError as error:
                logger.warning("unfinished uploads are removed later: %s", error.message)
        await self._janitor.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self._janitor.__aexit__()

    def close(self) -> None:
        """Take no new upload: the sidecar is shutting down."""
        self._closed = True

    @property
    def healthy(self) -> bool:
        """Whether the store was in order when it was last asked."""
        return self._janitor.healthy

    @property
    def uploading(self) -> int:
        """How many uploads are being read."""
        return self._all.total + self._handlers.total

    # -- uploading -----------------------------------------------------------------------------

    async def upload_of_person(
        self, person: Person, caller: Caller, upload: Upload, chunks: AsyncIterator[bytes]
    ) -> File:
        """Take a person's file, which waits to be used. See `_upload` for the errors."""
        if not caller.trusted:
            self._rate.take((person.app, person.identity))
        held = self._held(self._all, self._mine, (person.app, person.identity))
        return await self._upload(Uploader(person.app, person=person), held, upload, chunks)

    async def upload_of_handler(
        self, app: int, lease: Lease, upload: Upload, chunks: AsyncIterator[bytes]
    ) -> File:
        """Take a handler's file, which is its session's. See `_upload` for the errors."""
        held = self._held(self._handlers, self._turns, (app, lease.invocation_id))
        return await self._upload(Uploader(app, lease=lease), held, upload, chunks)

    @contextmanager
    def _held(self, all_: Shares, mine: Shares, owner: tuple[int, str]) -> Iterator[None]:
        with mine.one(owner), all_.one(""):
            yield

    async def _upload(
        self,
        uploader: Uploader,
        held: AbstractContextManager[None],
        upload: Upload,
        chunks: AsyncIterator[bytes],
    ) -> File:
        """Take a file; it is durable when this returns, and else nothing of it stays.

        Raises:
            InvalidArgument: A field is malformed.
            LimitExceeded: It is too large, or too much is not used yet.
            RateLimited: Too often, or too many at once.
            DigestMismatch: Size or digest are not those that were told.
            RequestIdReused: The request id was used with other content.
            StorageUnavailable: The store is away; nothing stays.
            ShuttingDown: No upload is begun any more.
        """
        if self._closed:
            raise ShuttingDown("the sidecar is shutting down")
        key = parse_request_id(upload.request_id)
        if len(upload.sha256) not in (0, 32):
            raise InvalidArgument("sha256", "must have 32 bytes, or none")
        if upload.size is not None and upload.size < 0:
            raise InvalidArgument("size", "must not be negative")
        self.check_size(upload.size or 0)
        name = clean_name(upload.name)
        begun = Begun(
            new_id("fil"), name, media_type_of(name, upload.content_type),
            upload.size or 0, round((self._timing.upload_timeout + _LATE_SECONDS) * 1000),
        )  # fmt: skip
        retention_ms = round(self._timing.unused_file_retention * 1000)
        with held:
            begin = partial(
                uploads.begin, uploader=uploader, begun=begun, request=key,
                max_unused=self._limits.unused_file_bytes, retention_ms=retention_ms,
            )  # fmt: skip
            try:
                recorded = await self._journal.submit(uploader.app, begin)
                if recorded is None:
                    size, sha256 = await self._write(begun.key, upload, chunks)
                else:
                    size, sha256 = await self._again(upload, chunks)
            except BaseException:
                self._give_up(begun.key)
                raise
            content = digest(
                uploader.lease.invocation_id if uploader.lease is not None else "",
                begun.name, begun.content_type, str(size), sha256,
            )  # fmt: skip
            if recorded is not None:
                check_same(recorded.digest, content)
                return recorded.file.file
            # What is committed stays, also where who waits for it has gone: a retry finds it.
            done = self._journal.submit(
                uploader.app,
                partial(
                    uploads.complete, uploader=uploader,
                    request=Request(Method.UPLOAD_FILE, key, content), key=begun.key, size=size,
                    sha256=sha256, retention_ms=retention_ms,
                    max_unused=self._limits.unused_file_bytes,
                ),
            )  # fmt: skip
            done.add_done_callback(partial(self._completed, begun.key))
            return (await asyncio.shield(done)).file

    async def _again(self, upload: Upload, chunks: AsyncIterator[bytes]) -> tuple[int, bytes]:
        """Return size and digest of what is sent again; it is read only where they were not told.

        Whoever sends it is answered in the middle of it then, as gRPC and its clients allow.
        """
        if upload.size is not None and upload.sha256:
            return upload.size, upload.sha256
        taken = Taken(upload, self._limits.max_file_bytes)
        async with self._limited():
            async for _ in taken.counted(chunks):
                pass
        return taken.checked()

    async def _write(
        self, key: str, upload: Upload, chunks: AsyncIterator[bytes]
    ) -> tuple[int, bytes]:
        """Write the bytes; return how many they are and their digest."""
        taken = Taken(upload, self._limits.max_file_bytes)
        try:
            async with self._limited():
                await self._objects.write(key, taken.counted(chunks))
        except StorageUnavailable:
            await self._janitor.doubt()
            raise
        return taken.checked()

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        timeout = self._timing.upload_timeout
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise LimitExceeded(
                "upload_timeout", round(timeout), f"an upload takes at most {timeout:g} s"
            ) from None

    def check_size(self, size: int) -> None:
        """Check how large a file is, or is going to be.

        Raises:
            LimitExceeded: It is too large.
        """
        check_size(size, self._limits.max_file_bytes)

    def _completed(self, key: str, done: asyncio.Future[files.Found]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._give_up(key)
        elif done.result().file.file_id != key:
            self._janitor.wake()

    def _give_up(self, key: str) -> None:
        """Let what there is of a file be removed, soon."""
        dropped = self._journal.submit(0, partial(files.give_up, key=key))
        dropped.add_done_callback(self._dropped)

    def _dropped(self, done: asyncio.Future[None]) -> None:
        # Where it could not be written down, the row's own time ends it.
        if not done.cancelled() and done.exception() is None:
            self._janitor.wake()

    # -- removing ------------------------------------------------------------------------------

    async def discard(self, person: Person, file_id: str) -> None:
        """Remove a file that this person uploaded and nothing uses; its bytes go soon.

        Raises:
            NotFound: There is none, it is somebody else's, or it is in use.
        """
        await self._journal.submit(person.app, partial(uploads.discard, person=person, key=file_id))
        self._janitor.wake()

    # -- reading -------------------------------------------------------------------------------

    async def of_person(self, person: Person, file_id: str) -> File:
        """Return a file of this person.

        Raises:
            NotFound: There is none, or it is somebody else's.
        """

        def look_up(connection: Connection) -> File:
            found = files.find(connection, file_id)
            user = reads.user_number(connection, person.app, person.identity)
            return _owned(found, person.app, user)

        return await self._journal.read(look_up)

    async def of_handler(self, app: int, lease: Lease, file_id: str) -> File:
        """Return a file of the person of an invocation's session.

        Raises:
            NotFound: There is none, or it is somebody else's; or there is no such invocation.
            Superseded: The attempt was delivered again.
            InvocationEnded: The invocation has ended.
        """

        def look_up(unit: Unit) -> File:
            _, session = work.fence(unit, app, lease)
            unit.flush_if_pending()
            return _owned(files.find(unit.connection, file_id), app, session.user)

        return await self._journal.submit(app, look_up)

    async def signed(self, file_id: str, expires: str, signature: str) -> tuple[File, float]:
        """Return the file of a signed address, and the seconds that it is still good for.

        Raises:
            PermissionDenied: The address is not good.
            NotFound: The file was deleted.
        """
        left = self.addresses.check(file_id, expires, signature)
        found = await self._journal.read(partial(files.find, key=file_id))
        return found.file, left

    def cut(self, file: File, offset: int, length: int) -> tuple[int, int]:
        """Return where a part of a file begins and ends.

        Args:
            file: The file.
            offset: Its first byte; the end of the file is allowed.
            length: How many bytes at the most; 0 for all.

        Raises:
            InvalidArgument: One is negative.
            PlaceUnavailable: The file ends before the first byte.
        """
        for field, value in (("offset", offset), ("length", length)):
            if value < 0:
                raise InvalidArgument(field, "must not be negative")
        if offset > file.size:
            raise PlaceUnavailable(
                f"byte {offset} is not in the file, which has {file.size}",
                lowest=0, highest=file.size,
            )  # fmt: skip
        return offset, min(file.size, offset + length) if length else file.size

    @contextmanager
    def sending(self, network: str = "") -> Iterator[None]:
        """Hold a place for a file that is being sent, until left.

        Args:
            network: Where to, by a signed address; empty: over gRPC, to who has a token.

        Raises:
            RateLimited: There is none: too many are being sent, of all or to this network.
        """
        if not network:
            with self._channels.one(""):
                yield
            return
        with self._networks.one(network), self._served.one(""):
            yield

    async def read(self, file: File, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield a file's bytes from a position to another, which is not included.

        Raises:
            FileLost: The store is there and does not have them.
            StorageUnavailable: The store is away.
        """
        try:
            async for piece in self._objects.read(file.file_id, start, end):
                yield piece
        except StorageUnavailable as error:
            in_order = await self._janitor.doubt()
            if not isinstance(error, ObjectMissing):
                raise
            if in_order:
                logger.error("the file store does not have the bytes of %s", file.file_id)
                raise FileLost(
                    f"the bytes of file {file.file_id!r} are lost", file_id=file.file_id
                ) from None
            raise StorageUnavailable(error.message) from error


def _owned(found: files.Found, app: int, user: int | None) -> File:
    if (found.app, found.user) != (app, user):
        raise NotFound(f"file {found.file.file_id!r} does not exist", file_id=found.file.file_id)
    return found.file

"""Where the bytes of files are: a local directory, or a bucket of S3 and its like.

obstore is what writes and reads. It is imported with the first file, so that a sidecar that keeps
none does not carry it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from capsule_sidecar.config import FileSettings
from capsule_sidecar.model.errors import StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

T = TypeVar("T")

# What crosses to obstore at once, and what a reader gets at once: a slow one holds two of them.
_CHUNK = 256 * 1024
_READ = 32 * 1024
# A bucket's objects, of which a file has as many as it takes. It is what one upload holds in
# memory, twice at the most. Stored: it never changes.
PART = 1024 * 1024
# How long the store may take for one step: a piece, a part, a flush, a removal.
_STEP_SECONDS = 60.0
_AWAY = "the file store does not answer or is full"
_LESS = "the file store has less of this file than there was"
_PROBE = "probe"


class ObjectMissing(StorageUnavailable):
    """An object is not there: it is lost, or else its store is away."""


class ObjectStore(Protocol):
    """Keeps bytes by key. Every method raises StorageUnavailable where the store is in trouble."""

    # Seconds until nothing can come any more of a writing that was broken off. What is removed
    # before is removed once more then. 0: nothing comes when `write` has ended.
    late: float

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write an object; it is durable when this returns, and else there is nothing of it.

        Holds a few pieces at the most, and takes the next when there is room. What the iterator
        raises is raised. Cancelled, it ends only when nothing is being written any more.
        """

    def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield an object's bytes from a position to another, which is not included.

        Raises:
            ObjectMissing: The object is not there, or not all of it.
        """

    async def delete(self, key: str) -> None:
        """Remove an object, also one that is half written; one that is not there is no error."""

    async def probe(self) -> None:
        """See that something can be written."""


def open_objects(settings: FileSettings, folder: Path) -> ObjectStore:
    """Return the store that the settings name; a local directory where they name none."""
    return LocalObjects(folder) if settings.url is None else BucketObjects(settings)


class LocalObjects:
    """A directory, private to the user, which must be there.

    Args:
        folder: The directory.
    """

    late = 0.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store: LocalStore | None = None

    def _path(self, key: str) -> Path:
        # Spread, so that no directory grows without end; the end of a key is random.
        return self._folder / key[-2:] / key

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write one file; it has another name until it is whole."""
        path = self._path(key)
        await _in_thread(_make_folder, path.parent)
        store = await self._open()
        import obstore

        feed = _Feed()
        putting = asyncio.ensure_future(
            obstore.put_async(
                store, f"{key[-2:]}/{key}", feed, use_multipart=True, chunk_size=_CHUNK,
                max_concurrency=2,
            )
        )  # fmt: skip
        try:
            async for chunk in _joined(chunks, _CHUNK):
                await feed.put(chunk, putting)
            await feed.put(None, putting)
            await _step(putting)
        except BaseException:
            # What is half written is removed by whoever writes it, so that is waited for.
            feed.fail()
            await _settled(putting)
            raise
        await _in_thread(_flush, path)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a file piece by piece: nothing of it is open while its reader waits."""
        # Not by obstore, which would have a thread for each reader.
        path = self._path(key)
        while start < end:
            size = min(end - start, _READ)
            piece = await _found(asyncio.to_thread(_read_piece, path, start, size))
            if len(piece) != size:
                raise ObjectMissing(_LESS)
            start += size
            yield piece
            del piece  # the reader has it, and may be slow to ask for the next

    async def delete(self, key: str) -> None:
        """Remove a file, and what a crash has left of its writing."""
        await _in_thread(_remove, self._path(key))

    async def probe(self) -> None:
        """Write a small file and remove it."""
        await _in_thread(_probe, self._folder / _PROBE)

    async def _open(self) -> LocalStore:
        if self._store is None:
            self._store = await asyncio.to_thread(_local_store, self._folder)
        return self._store


class BucketObjects:
    """A bucket. A file is a row of objects of one size, named by their number.

    Each is put whole, or not at all: an upload that breaks off leaves objects that can be listed
    and removed, where a multipart upload would leave parts that only its own id leads to.

    Args:
        settings: Which bucket, and how it is reached.
    """

    # An object that is being put when the wait for it ends.
    late = 2 * _STEP_SECONDS

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings
        self._store: S3Store | None = None

    async def write(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Put a file's objects, one after another."""
        store = await self._open()
        import obstore

        number = 0
        async for part in _joined(chunks, PART):
            putting = asyncio.ensure_future(
                obstore.put_async(store, _part(key, number), part, use_multipart=False)
            )
            try:
                await _step(asyncio.shield(putting))
            except BaseException:
                # One that is on its way would be there after it was removed.
                await _settled(putting)
                raise
            number += 1

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Get a file's objects, one after another: none is held open for a slow reader."""
        store = await self._open()
        import obstore

        while start < end:
            number, begin = divmod(start, PART)
            stop = min(PART, begin + end - start)
            found = await _found(
                obstore.get_range_async(store, _part(key, number), start=begin, end=stop)
            )
            data = memoryview(found)
            if len(data) != stop - begin:
                raise ObjectMissing(_LESS)
            for at in range(0, len(data), _CHUNK):
                yield bytes(data[at : at + _CHUNK])
            start += stop - begin

    async def delete(self, key: str) -> None:
        """Remove all objects of a file."""
        store = await self._open()
        import obstore

        async def remove() -> None:
            async for page in obstore.list(store, prefix=key):
                paths = [entry["path"] for entry in page]
                if paths:
                    await obstore.delete_async(store, paths)

        await _step(remove())

    async def probe(self) -> None:
        """Put an object and remove it."""
        store = await self._open()
        import obstore

        await _step(obstore.put_async(store, _PROBE, b"", use_multipart=False))
        await _step(obstore.delete_async(store, _PROBE))

    async def _open(self) -> S3Store:
        if self._store is None:
            self._store = await asyncio.to_thread(_bucket_store, self._settings)
        return self._store


def _part(key: str, number: int) -> str:
    return f"{key}/{number:06}"


def _local_store(folder: Path) -> LocalStore:
    from obstore.store import LocalStore

    try:
        return LocalStore(folder)
    except Exception as error:
        raise StorageUnavailable(_AWAY) from error


def _bucket_store(settings: FileSettings) -> S3Store:
    from obstore.store import S3Store

    assert settings.url is not None
    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    options: dict[str, Any] = {"virtual_hosted_style_request": settings.endpoint is None}
    if settings.endpoint is not None:
        options["endpoint"] = settings.endpoint
    if settings.region is not None:
        options["region"] = settings.region
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        options["access_key_id"] = settings.access_key_id.get_secret_value()
        options["secret_access_key"] = settings.secret_access_key.get_secret_value()
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        config=options,  # type: ignore[arg-type]  # a TypedDict whose keys are given where set
        client_options={
            "allow_http": settings.allow_http,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=30),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    )


class _Feed:
    """What obstore takes pieces from: it holds one at the most."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | _Abandoned | None] = asyncio.Queue(maxsize=1)

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._queue.get()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, _Abandoned):
            raise piece
        return piece

    async def put(self, piece: bytes | None, taker: asyncio.Future[Any]) -> None:
        """Give the next piece, or None for the end, when there is room for it."""
        if self._queue.empty():
            self._queue.put_nowait(piece)
            return
        giving = asyncio.ensure_future(self._queue.put(piece))
        try:
            await asyncio.wait(
                {giving, taker}, timeout=_STEP_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not giving.done():
                if taker.done():
                    await _step(taker)
                raise StorageUnavailable(_AWAY)
        finally:
            giving.cancel()

    def fail(self) -> None:
        """Let the taker give up, whatever it waits for."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(_Abandoned())


class _Abandoned(Exception):
    """The upload has broken off."""


async def _step(work: Awaitable[T]) -> T:
    """Wait for one step of the store.

    Raises:
        StorageUnavailable: It failed, or took too long.
    """
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            return await work
    except StorageUnavailable:
        raise
    except Exception as error:
        # obstore has errors of its own and builtin ones, and says what an address and a key are.
        raise StorageUnavailable(_AWAY) from error


async def _found(work: Awaitable[T]) -> T:
    """Wait for what an object holds; see `_step`.

    Raises:
        ObjectMissing: It is not there.
    """

    async def sought() -> T:
        try:
            return await work
        except FileNotFoundError as error:
            raise ObjectMissing(_AWAY) from error

    return await _step(sought())


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait until something is over, however it ends, and also where the caller was cancelled."""
    until = asyncio.get_running_loop().time() + _STEP_SECONDS
    while not future.done():
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            future.cancel()
            return
        # Cancelled again: it must be over all the same.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({future}, timeout=left)
    if not future.cancelled():
        future.exception()


async def _joined(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces of a size, the last one shorter."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


async def _in_thread(work: Callable[[Path], None], path: Path) -> None:
    await _step(asyncio.to_thread(work, path))


def _make_folder(folder: Path) -> None:
    # Its parent is there, or the store is gone: a directory that is not mounted is not filled.
    if not folder.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        _flush_entry(folder.parent)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    _flush_entry(path.parent)


def _flush_entry(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_piece(path: Path, start: int, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return file.read(size)


def _remove(path: Path) -> None:
    if not path.parent.parent.is_dir():
        raise FileNotFoundError(path.parent.parent)  # the store is gone, not the file
    path.unlink(missing_ok=True)
    # What obstore writes has a number at its end until it is whole.
    for left in path.parent.glob(f"{path.name}#*"):
        left.unlink(missing_ok=True)


def _probe(path: Path) -> None:
    path.write_bytes(bytes(4096))  # a full disk takes an empty file
    path.unlink()

"""What every file store does: a directory, and a bucket of a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from capsule_sidecar.config import FileSettings
from capsule_sidecar.model.errors import StorageUnavailable
from capsule_sidecar.storage.objects import PART, ObjectStore, open_objects
from tests.support.eventually import eventually
from tests.support.s3 import S3, s3_server

KEY = "fil_01jzz0000000000000000000ab"


@dataclass
class Kept:
    """A store, what it holds, and how it is taken away and brought back."""

    store: ObjectStore
    files: Callable[[], list[str]]
    away: Callable[[], object]
    back: Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=["directory", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "directory":
        folder, moved = tmp_path / "files", tmp_path / "moved"
        folder.mkdir(mode=0o700)
        yield Kept(
            open_objects(FileSettings(), folder),
            lambda: sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
            lambda: shutil.move(folder, moved),
            lambda: shutil.move(moved, folder),
        )
        return
    found: S3 = request.getfixturevalue("server")
    yield Kept(open_objects(found.settings, tmp_path), found.objects, found.stop, found.start)


async def pieces(data: bytes, size: int = 50_000, fails_at: int = -1) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        if 0 <= fails_at <= at:
            raise ValueError("broken off")
        yield data[at : at + size]


async def read(kept: Kept, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in kept.store.read(KEY, start, end)])


async def test_an_object_is_read_as_it_was_written_also_in_part(kept: Kept) -> None:
    data = os.urandom(2 * PART + 12_345)
    await kept.store.write(KEY, pieces(data))
    assert hashlib.sha256(await read(kept, 0, len(data))).digest() == hashlib.sha256(data).digest()
    for start, end in ((0, 1), (PART - 1, PART + 1), (PART, 2 * PART), (2 * PART + 1, len(data))):
        assert await read(kept, start, end) == data[start:end]
    assert await read(kept, 5, 5) == b""
    await kept.store.delete(KEY)
    assert kept.files() == []


async def test_an_empty_object_is_none_or_an_empty_one(kept: Kept) -> None:
    await kept.store.write(KEY, pieces(b""))
    assert await read(kept, 0, 0) == b""
    await kept.store.delete(KEY)
    assert kept.files() == []


async def test_what_is_not_there_is_removed_without_an_error_and_cannot_be_read(
    kept: Kept,
) -> None:
    await kept.store.delete(KEY)
    with pytest.raises(StorageUnavailable) as caught:
        await read(kept, 0, 10)
    assert "file store" in caught.value.message


async def test_a_source_that_fails_fails_the_write_and_leaves_what_delete_removes(
    kept: Kept,
) -> None:
    with pytest.raises(ValueError, match="broken off"):
        await kept.store.write(KEY, pieces(os.urandom(3 * PART), fails_at=2 * PART + 1))
    await kept.store.delete(KEY)
    assert kept.files() == []


async def test_a_write_that_is_cancelled_writes_nothing_afterwards(kept: Kept) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)
            begun.set()
            await asyncio.sleep(0)

    writing = asyncio.create_task(kept.store.write(KEY, endless()))
    await begun.wait()
    await eventually(kept.files, message="something is written")
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await kept.store.delete(KEY)
    assert kept.files() == []
    await kept.store.probe()
    assert kept.files() == []


async def test_a_store_that_is_away_says_so_and_is_used_again_when_it_is_back(kept: Kept) -> None:
    await kept.store.write(KEY, pieces(b"before"))
    kept.away()
    try:
        with pytest.raises(StorageUnavailable):
            await kept.store.probe()
        with pytest.raises(StorageUnavailable):
            await kept.store.write(f"{KEY}x", pieces(b"meanwhile"))
        with pytest.raises(StorageUnavailable):
            await kept.store.delete(KEY)
    finally:
        kept.back()
    await kept.store.probe()
    assert await read(kept, 0, 6) == b"before"
    await kept.store.delete(KEY)
    await kept.store.delete(f"{KEY}x")
    assert kept.files() == []


async def test_a_directory_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir(mode=0o700)
    store = open_objects(FileSettings(), folder)
    await store.write(KEY, pieces(b"x"))
    (path,) = [p for p in folder.rglob("*") if p.is_file()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700

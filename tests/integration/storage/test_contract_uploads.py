"""Uploads as rows, on both databases: begun, complete once, given up, used and removed."""

from __future__ import annotations

import pytest

from capsule_sidecar.model.errors import LimitExceeded, NotFound, RequestIdReused
from capsule_sidecar.model.ids import digest
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import files, uploads
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.uploads import Begun, Uploader
from tests.integration.storage.store import Sidecar, Store, request_key

DAY = 86_400_000


async def begin(sidecar: Sidecar, who: Uploader, key: str, size: int = 0) -> None:
    begun = Begun(key, "a.txt", "text/plain", size, 60_000)
    await sidecar.do(uploads.begin, uploader=who, begun=begun, max_unused=100)


async def due(sidecar: Sidecar, again_ms: int) -> list[str]:
    return [found.key for found in await sidecar.do(files.due, limit=10, again_ms=again_ms)]


async def complete(
    sidecar: Sidecar, who: Uploader, key: str, data: bytes = b"data", request: bytes = b""
) -> str:
    asked = Request(Method.UPLOAD_FILE, request or request_key(), digest(data))
    found = await sidecar.do(
        uploads.complete, uploader=who, request=asked, key=key, size=len(data), sha256=b"s" * 32,
        retention_ms=DAY, max_unused=100,
    )  # fmt: skip
    return found.file.file_id


async def test_an_upload_is_complete_once_and_its_repetition_is_removed(store: Store) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)
        same = request_key()
        for key in ("fil_1", "fil_2", "fil_3"):
            await begin(sidecar, who, key)
        with pytest.raises(NotFound):
            await sidecar.read(files.find, key="fil_1")
        assert await complete(sidecar, who, "fil_1", request=same) == "fil_1"
        assert await complete(sidecar, who, "fil_2", request=same) == "fil_1"
        with pytest.raises(RequestIdReused):
            await complete(sidecar, who, "fil_3", b"other", request=same)
        assert await due(sidecar, 1000) == ["fil_2"]
        assert await due(sidecar, 1000) == []
        sidecar.clock.advance(61_000)
        assert sorted(await due(sidecar, 1000)) == ["fil_2", "fil_3"]
        await sidecar.do(files.forget, keys=["fil_2", "fil_3", "fil_1"])
        assert (await sidecar.read(files.find, key="fil_1")).file.name == "a.txt"
        sidecar.clock.advance(DAY)
        assert await due(sidecar, 1000) == ["fil_1"]
        with pytest.raises(NotFound):
            await sidecar.read(files.find, key="fil_1")


async def test_what_is_not_used_counts_for_its_person_until_it_is(store: Store) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)
        await begin(sidecar, who, "fil_1", 90)
        with pytest.raises(LimitExceeded):
            await begin(sidecar, who, "fil_2", 11)
        await begin(sidecar, who, "fil_2")
        with pytest.raises(LimitExceeded):
            await complete(sidecar, who, "fil_2", bytes(11))
        assert await complete(sidecar, who, "fil_1", bytes(90)) == "fil_1"
        session = await sidecar.open()
        used = await sidecar.do(
            lambda unit: files.use(unit, unit.session(session, sidecar.app), ["fil_1"], "f")
        )
        assert [file.session_id for file in used] == [session]
        assert await complete(sidecar, who, "fil_2", bytes(11)) == "fil_2"


async def test_an_upload_of_a_session_that_was_deleted_is_given_up(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        who = Uploader(sidecar.app, lease=Lease(sent.ids[1], 1))
        await begin(sidecar, who, "fil_1")
        await begin(sidecar, who, "fil_2")
        assert await complete(sidecar, who, "fil_1") == "fil_1"
        assert (await sidecar.read(files.find, key="fil_1")).file.session_id == session
        await sidecar.delete(session)
        with pytest.raises(NotFound):
            await complete(sidecar, who, "fil_2")
        assert await due(sidecar, 60_000) == ["fil_1"]
        sidecar.clock.advance(61_000)
        assert sorted(await due(sidecar, 60_000)) == ["fil_1", "fil_2"]


async def test_what_was_given_up_can_be_removed_twice_and_is_then_forgotten(store: Store) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)
        await begin(sidecar, who, "fil_1")
        await begin(sidecar, who, "fil_2")
        assert await complete(sidecar, who, "fil_2") == "fil_2"
        await sidecar.do(files.drop, keys=["fil_1", "fil_2"])
        first = await sidecar.do(files.due, limit=10, again_ms=1000)
        assert sorted(first, key=lambda due: due.key) == [
            files.Due("fil_1", unfinished=True),
            files.Due("fil_2", unfinished=False),
        ]
        await sidecar.do(files.sweep_again, keys=["fil_1"], after_ms=120_000)
        await sidecar.do(files.forget, keys=["fil_2"])
        # It counts as nobody's, and a sidecar that starts does not hasten it.
        await begin(sidecar, who, "fil_3", 100)
        await sidecar.do(files.drop_unfinished)
        assert await due(sidecar, 1000) == ["fil_3"]
        await sidecar.do(files.forget, keys=["fil_3"])
        sidecar.clock.advance(121_000)
        assert await sidecar.do(files.due, limit=10, again_ms=1000) == [
            files.Due("fil_1", unfinished=False)
        ]
        await sidecar.do(files.postpone, key="fil_1", after_ms=10_000)
        sidecar.clock.advance(9_000)
        assert await due(sidecar, 1000) == []
        sidecar.clock.advance(2_000)
        assert await due(sidecar, 1000) == ["fil_1"]
        await sidecar.do(files.forget, keys=["fil_1"])
        sidecar.clock.advance(61_000)
        assert await due(sidecar, 1000) == []

"""Uploads as rows, on both databases: begun, complete once, given up, used and removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capsule_sidecar.model.errors import InvocationEnded, LimitExceeded, NotFound, RequestIdReused
from capsule_sidecar.model.ids import digest
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import files, uploads
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.uploads import Begun, Recorded, Uploader
from tests.integration.storage.store import Sidecar, Store, request_key

DAY = 86_400_000


async def begin(
    sidecar: Sidecar, who: Uploader, key: str, size: int = 0, request: bytes = b""
) -> Recorded | None:
    begun = Begun(key, "a.txt", "text/plain", size, 60_000)
    return await sidecar.do(
        uploads.begin, uploader=who, begun=begun, request=request or request_key(), max_unused=100,
        retention_ms=DAY,
    )  # fmt: skip


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
        assert await due(sidecar, 30_000) == ["fil_2"]
        assert await due(sidecar, 30_000) == []
        sidecar.clock.advance(61_000)
        assert sorted(await due(sidecar, 30_000)) == ["fil_2", "fil_3"]
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


async def test_what_nothing_uses_its_person_can_discard_and_then_it_counts_no_more(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)
        eve = replace(sidecar.ada, identity="terminal:eve")
        for key in ("fil_1", "fil_2"):
            await begin(sidecar, who, key, 50)
            await complete(sidecar, who, key, bytes(50))
        await begin(sidecar, who, "fil_3")
        session = await sidecar.open()
        await sidecar.do(
            lambda unit: files.use(unit, unit.session(session, sidecar.app), ["fil_2"], "f")
        )
        # Nobody else's, none that is used, none that is being uploaded, none that is not there.
        for person, key in (
            (eve, "fil_1"), (replace(sidecar.ada, app=sidecar.app + 1), "fil_1"),
            (sidecar.ada, "fil_2"), (sidecar.ada, "fil_3"), (sidecar.ada, "fil_4"),
        ):  # fmt: skip
            with pytest.raises(NotFound):
                await sidecar.do(uploads.discard, person=person, key=key)
        assert await due(sidecar, 1000) == []
        with pytest.raises(LimitExceeded):
            await begin(sidecar, who, "fil_5", 51)
        await sidecar.do(uploads.discard, person=sidecar.ada, key="fil_1")
        with pytest.raises(NotFound):
            await sidecar.do(uploads.discard, person=sidecar.ada, key="fil_1")
        with pytest.raises(NotFound):
            await sidecar.do(
                lambda unit: files.use(unit, unit.session(session, sidecar.app), ["fil_1"], "f")
            )
        assert await due(sidecar, 1000) == ["fil_1"]
        # What waits to be removed from the store is not the person's any more.
        await begin(sidecar, who, "fil_5", 100)


@pytest.mark.parametrize(
    ("size", "kept", "words"),
    [
        (1 << 30, DAY, ("1024 MiB", "a day")),
        (1_600_000, 2 * DAY, ("1.5 MiB", "2 days")),
        (100, 3_600_000, ("100 bytes", "an hour")),
    ],
)
async def test_who_has_too_much_unused_reads_how_much_and_what_to_do(
    store: Store, size: int, kept: int, words: tuple[str, str]
) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)

        async def begin_one(key: str, more: int) -> None:
            await sidecar.do(
                uploads.begin, uploader=who, begun=Begun(key, "a.txt", "text/plain", more, 60_000),
                request=request_key(), max_unused=size, retention_ms=kept,
            )  # fmt: skip

        await begin_one("fil_1", size)
        with pytest.raises(LimitExceeded) as refused:
            await begin_one("fil_2", 1)
        assert refused.value.message == (
            f"you have uploaded {words[0]} that no message carries; with this file it would be more"
            f" than {words[0]}: remove some of them, or wait: they go after {words[1]}"
        )


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
        sidecar.clock.advance(5_000)
        assert await due(sidecar, 1000) == []
        sidecar.clock.advance(6_000)
        assert await due(sidecar, 1000) == ["fil_1"]
        await sidecar.do(files.forget, keys=["fil_1"])
        sidecar.clock.advance(61_000)
        assert await due(sidecar, 1000) == []


async def test_what_was_answered_is_answered_again_whatever_quota_and_fence_say(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        handler = Uploader(sidecar.app, lease=Lease(sent.ids[1], 1))
        ada = Uploader(sidecar.app, person=sidecar.ada)
        for number, who in enumerate((ada, handler)):
            key, same = f"fil_{number}", request_key()
            assert await begin(sidecar, who, key, 90, same) is None
            assert await complete(sidecar, who, key, bytes(90), same) == key
            if who is handler:
                await sidecar.finish(Lease(sent.ids[1], 1))
            for again in ("fil_8", "fil_9"):
                found = await begin(sidecar, who, again, 90, same)
                assert found is not None
                assert (found.file.file.file_id, found.digest) == (key, digest(bytes(90)))
            with pytest.raises((LimitExceeded, InvocationEnded)):
                await begin(sidecar, who, "fil_8", 90)
        assert await due(sidecar, 1000) == [], "a retry makes no row"


async def test_a_handlers_file_passes_away_unless_something_takes_it(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        sent = await sidecar.say(session, "hello")
        who = Uploader(sidecar.app, lease=Lease(sent.ids[1], 1))
        for key in ("fil_1", "fil_2"):
            await begin(sidecar, who, key)
            await complete(sidecar, who, key)
        await sidecar.do(
            lambda unit: files.take(unit, unit.session(session, sidecar.app), ["fil_1"])
        )
        sidecar.clock.advance(DAY + 1000)
        assert await due(sidecar, 1000) == ["fil_2"]
        await sidecar.do(files.forget, keys=["fil_2"])
        sidecar.clock.advance(30 * DAY)
        assert await due(sidecar, 1000) == []
        assert (await sidecar.read(files.find, key="fil_1")).file.session_id == session


async def test_giving_up_leaves_what_is_complete(store: Store) -> None:
    async with store.sidecar() as sidecar:
        who = Uploader(sidecar.app, person=sidecar.ada)
        for key in ("fil_1", "fil_2"):
            await begin(sidecar, who, key)
        await complete(sidecar, who, "fil_1")
        for key in ("fil_1", "fil_2"):
            await sidecar.do(files.give_up, key=key)
        assert await due(sidecar, 1000) == ["fil_2"]
        assert (await sidecar.read(files.find, key="fil_1")).file.file_id == "fil_1"

"""How long files are kept, and what becomes of them when something breaks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.files import Mover, resident, rows, stored
from tests.support.http import Browser, Line, problem, served
from tests.support.s3 import S3, s3_server
from tests.support.sidecar import Person, SidecarProcess, refused, running_sidecar
from tests.support.turns import turn_on

MIB = 1 << 20


async def test_a_file_goes_with_its_session(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        ada = desk.person
        sent = await Mover(ada).up(b"sent")
        made = await Mover(desk).up(b"made")
        unused = await Mover(ada).up(b"unused")
        await ada.say(desk.session, "see", attachments=[sent.file_id])
        call = Mover(desk).stub.UploadFile(metadata=desk.handler.metadata)
        for part in Mover(desk).parts(bytes(1_000_000)):
            await call.write(part)
        await eventually(lambda: len(stored(tmp_path)) == 4, message="one is being uploaded")
        await ada.call("DeleteSession", session_id=desk.session)
        for file in (sent, made):
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await Mover(ada).get(file.file_id)
            async with httpx.AsyncClient(trust_env=False) as client:
                problem(await client.get(file.url), 404, "NOT_FOUND")
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await eventually(lambda: stored(tmp_path) == [unused.file_id], message="the rest is gone")
        await eventually(lambda: rows(tmp_path) == [(unused.file_id, 2)], message="one row")


async def test_a_file_that_nobody_uses_is_removed_after_its_time(tmp_path: Path) -> None:
    timing = {"unused_file_retention": 3.0}  # it is to be used within it
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        mine = Mover(ada)
        session = await ada.open()
        used = await mine.up(b"used")
        await ada.say(session, "see", attachments=[used.file_id])
        await mine.up(b"unused")
        await eventually(lambda: stored(tmp_path) == [used.file_id], message="one is removed")
        await eventually(lambda: rows(tmp_path) == [(used.file_id, 2)], message="its row too")


async def test_a_kill_in_the_middle_of_an_upload_leaves_nothing(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with Person(running) as ada:
            mine = Mover(ada)
            kept = await mine.up(b"kept")
            call = mine.stub.UploadFile(metadata=mine.metadata)
            for part in mine.parts(bytes(3_000_000)):
                await call.write(part)
            await eventually(lambda: len(stored(tmp_path)) == 2, message="it is being written")
            await sidecar.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        assert len(stored(tmp_path)) == 2
        assert len(rows(tmp_path)) == 2
        running = await sidecar.start()
        await eventually(lambda: stored(tmp_path) == [kept.file_id], message="nothing is left")
        await eventually(lambda: rows(tmp_path) == [(kept.file_id, 2)], message="no row either")
        async with Person(running) as ada:
            assert await Mover(ada).down(kept.file_id) == b"kept"
            # Signed before, loaded after: the key is the home's.
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(kept.url)).content == b"kept"


async def test_a_store_that_is_gone_is_told_of_and_used_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    home, moved = tmp_path / "home", tmp_path / "moved"
    async with served(home) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(b"kept")
        shutil.move(home / "files", moved)
        problem(await me.try_upload(b"x", "x"), 503, "STORAGE_UNAVAILABLE")
        problem(await me.http.get(file["url"]), 503, "STORAGE_UNAVAILABLE")
        assert (await me.http.get("/readyz")).status_code == 503
        session = await me.open()
        await me.say(session, "talk goes on")
        shutil.move(moved, home / "files")

        async def ready() -> bool:
            return (await me.http.get("/readyz")).status_code == 200

        await eventually(ready, message="the store is back")
        assert (await me.http.get(file["url"])).content == b"kept"
        await me.upload(b"x")


async def test_a_file_that_was_lost_is_that_files_trouble_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me, Person(running) as ada:
        await me.sign_in()
        lost, cut, kept = [await me.upload(b"data") for _ in range(3)]
        mine = Mover(ada)
        gone = await mine.up(b"gone")
        for path in (tmp_path / "files").rglob("fil_*"):
            if path.name in (lost["file_id"], gone.file_id):
                path.unlink()
            if path.name == cut["file_id"]:
                path.write_bytes(b"d")
        for _ in range(3):
            for file in (lost, cut):
                refused_ = await me.http.get(file["url"])
                problem(refused_, 404, "NOT_FOUND")
                assert "store" not in refused_.json()["detail"]
                assert (await me.http.get("/readyz")).status_code == 200
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await mine.down(gone.file_id)
        assert (await me.http.get(kept["url"])).content == b"data"
        assert (await me.http.get("/readyz")).status_code == 200


async def test_a_file_that_cannot_be_removed_is_in_no_others_way(tmp_path: Path) -> None:
    timing = {"unused_file_retention": 3.0}  # it is looked for within it
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        stuck = await me.upload(b"a")
        (path,) = (tmp_path / "files").rglob(stuck["file_id"])
        path.unlink()
        path.mkdir()
        for number in range(5):
            await me.upload(b"%d" % number)
        ready: list[int] = []

        async def removed() -> bool:
            ready.append((await me.http.get("/readyz")).status_code)
            return rows(tmp_path) == [(stuck["file_id"], 3)]

        await eventually(removed, timeout=15, message="the others are removed")
        assert set(ready) == {200}
        assert stored(tmp_path) == []
        path.rmdir()
        await eventually(lambda: not rows(tmp_path), timeout=20, message="it is tried again")


async def test_files_are_deleted_also_where_the_store_was_gone_meanwhile(tmp_path: Path) -> None:
    home, moved = tmp_path / "home", tmp_path / "moved"
    async with running_sidecar(home) as running, Person(running) as ada:
        session = await ada.open()
        file = await Mover(ada).up(b"x")
        await ada.say(session, "see", attachments=[file.file_id])
        shutil.move(home / "files", moved)
        await ada.call("DeleteSession", session_id=session)
        sidecar: Any = running.sidecar
        await eventually(lambda: not sidecar.files.healthy, message="it was tried")
        assert rows(home) == [(file.file_id, 3)]
        shutil.move(moved, home / "files")
        gone = lambda: not stored(home) and not rows(home)  # noqa: E731 - one look at both
        await eventually(gone, timeout=20, message="it is removed")


async def test_a_sidecar_that_drains_lets_an_upload_finish_and_takes_no_new_one(
    tmp_path: Path,
) -> None:
    waits = {"CAPSULE_TIMING__DRAIN_GRACE": "20"}
    async with SidecarProcess(tmp_path, environment=waits) as sidecar:
        running = await sidecar.start()
        async with Person(running) as ada:
            mine = Mover(ada)
            header, *data = mine.parts(b"x" * 1_000_000)
            call = mine.stub.UploadFile(metadata=mine.metadata)
            await call.write(header)
            await eventually(lambda: rows(tmp_path), message="it has begun")
            ending = asyncio.create_task(sidecar.end())
            await eventually(lambda: b"stopping" in sidecar.log, message="it drains")
            with refused(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"):
                await mine.up(b"new")
            for part in data:
                await call.write(part)
            await call.done_writing()
            assert (await call).file.size == 1_000_000
            assert await ending == 0
        assert len(stored(tmp_path)) == 1


async def _form(size: int, digest: Any) -> AsyncIterator[bytes]:
    yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    for _ in range(size // MIB):
        piece = os.urandom(64 * 1024) * 16
        digest.update(piece)
        yield piece
    yield b"\r\n--b--\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as found:
        yield found


@pytest.mark.deadline(180)
@pytest.mark.parametrize("where", ["directory", "bucket"])
async def test_100_mib_go_up_and_down_in_little_memory_also_to_a_slow_reader(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    environment: dict[str, str] = {"CAPSULE_TIMING__BODY_TIMEOUT": "30"}
    if where == "bucket":
        settings = request.getfixturevalue("server").settings
        environment |= {
            f"CAPSULE_FILES__{name.upper()}": str(value)
            for name, value in settings.model_dump().items()
            if value is not None and "key" not in name
        } | {
            "CAPSULE_FILES__ACCESS_KEY_ID": settings.access_key_id.get_secret_value(),
            "CAPSULE_FILES__SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
        }  # fmt: skip
    async with SidecarProcess(tmp_path, environment=environment) as sidecar:
        running = await sidecar.start()
        assert sidecar.process is not None
        pid = sidecar.process.pid
        most = 0.0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, resident(pid))
                await asyncio.sleep(0.01)

        async with Person(running) as ada, Browser(running) as me:
            await ada.open()
            await Mover(ada).up(b"the first loads what moves files")
            await me.http.post("/apps/support/auth/guest")
            before = resident(pid)
            watching = asyncio.create_task(watch())
            try:
                mine = Mover(ada)
                data = os.urandom(MIB) * 100
                file = await mine.up(data, "large.bin")
                assert file.sha256 == hashlib.sha256(data).digest()
                assert hashlib.sha256(await mine.down(file.file_id)).digest() == file.sha256
                slow = hashlib.sha256()
                async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                    async with client.stream("GET", file.url) as answer:
                        number = 0
                        async for piece in answer.aiter_bytes(64 * 1024):
                            slow.update(piece)
                            number += 1
                            if number % 16 == 0:
                                await asyncio.sleep(0.02)  # the reader that is meant
                assert slow.digest() == file.sha256
            finally:
                watching.cancel()
        assert most - before < 32


@pytest.mark.deadline(120)
async def test_100_mib_go_up_in_a_form_from_a_slow_sender_in_little_memory(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path, environment={"CAPSULE_APPS": '{"support": {}}'}) as sidecar:
        running = await sidecar.start()
        assert sidecar.process is not None
        async with Browser(running) as me:
            await me.sign_in()
            await me.upload(b"the first loads what moves files")
            before = resident(sidecar.process.pid)
            most = before
            digest = hashlib.sha256()

            async def slowly() -> AsyncIterator[bytes]:
                nonlocal most
                async for piece in _form(100 * MIB, digest):
                    yield piece
                    assert sidecar.process is not None
                    most = max(most, resident(sidecar.process.pid))
                    await asyncio.sleep(0.02)  # the sender that is meant

            answer = await me.http.post(
                f"{me.v1}/files", content=slowly(), timeout=60,
                headers={"content-type": "multipart/form-data; boundary=b"},
            )  # fmt: skip
            assert answer.status_code == 201, answer.text
            file = answer.json()["file"]
            got = hashlib.sha256()
            async with me.http.stream("GET", file["url"]) as down:
                async for piece in down.aiter_bytes():
                    got.update(piece)
                    most = max(most, resident(sidecar.process.pid))
            assert got.digest() == digest.digest()
        assert most - before < 32


async def test_a_reader_that_has_gone_holds_nothing_up(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(os.urandom(5 * MIB))
        target = httpx.URL(file["url"]).raw_path.decode()
        for _ in range(5):
            async with Line(running) as line:
                await line.send(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                assert (await line.answer(head=True)).status == 200
        assert len((await me.http.get(file["url"])).content) == 5 * MIB

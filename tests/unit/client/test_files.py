"""Attachments, downloads and uploads, against a sidecar that a test holds in its hand."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client._disk import safe_name
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, message, status

MIB = 1024 * 1024
Do = Callable[[capsule.Session, capsule.Message], Awaitable[Any]]


async def done(sidecar: FakeSidecar, do: Do, *attachments: Any) -> Any:
    """Runs one turn whose message has attachments; returns what `do` gave, or its error."""
    app = capsule.App("demo", address=sidecar.address, token=TOKEN)
    results: list[Any] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.append(await do(session, msg))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results.append(error)

    async with app.attached():
        invocation = sidecar.invocation(
            turn=pb.Turn(message=message("look", attachments=attachments))
        )
        sidecar.line.send(pb.SidecarFrame(invocation=invocation))
        await sidecar.outcome(invocation, timeout=30)
    return results[0]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def download_to(path: Any) -> Do:
    return lambda session, msg: msg.attachments[0].download(path)


async def read(session: capsule.Session, msg: capsule.Message) -> bytes:
    return await msg.attachments[0].read()


async def test_an_attachment_is_read_and_downloaded_as_its_turn(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        data = os.urandom(3 * MIB + 5)
        attachment = sidecar.files.put(data, "cat.png", "image/png")
        target = tmp_path / "deep" / "er" / "kept.bin"
        assert await done(sidecar, read, attachment) == data
        assert await done(sidecar, download_to(str(target)), attachment) == str(target)
        assert target.read_bytes() == data
        assert names(target.parent) == ["kept.bin"]
        first, second = sidecar.files.asked
        assert (first.caller.invocation_id, second.caller.invocation_id) == ("i-1", "i-2")
        assert first.caller.attempt == 1
        assert sidecar.files.metadata[0]["authorization"] == f"Bearer {TOKEN}"
        assert sidecar.files.metadata[0]["capsule-app"] == "demo"


async def test_attachments_of_history_are_read_too() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"before")
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        seen: list[Any] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            seen.append(await session.history[0].attachments[0].read())
            seen.append(session.chat_messages(msg)[0]["content"])

        async with app.attached():
            wordless = message("", attachments=[attachment])
            await sidecar.outcome(sidecar.invoke("what is it?", history=[wordless]))
        assert seen == [
            b"before",
            "[Attachment: notes.txt (text/plain, 6 bytes)]\n\nwhat is it?",
        ]


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"")
        assert await done(sidecar, read, attachment) == b""
        saved = await done(sidecar, download_to(tmp_path), attachment)
        assert content(saved) == b""


async def test_a_download_that_is_cut_goes_on_behind_the_last_byte(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        data = os.urandom(MIB)
        attachment = sidecar.files.put(data)
        sidecar.files.cuts = [0, 100_000, 0, 0, 65_536]
        saved = await done(sidecar, download_to(tmp_path), attachment)
        assert content(saved) == data
        offsets = [one.offset for one in sidecar.files.asked]
        assert offsets == [0, 0, 100_000, 100_000, 100_000, 165_536]


async def test_a_download_whose_end_alone_was_lost_is_complete() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"whole")
        sidecar.files.cuts = [5]
        assert await done(sidecar, read, attachment) == b"whole"
        assert len(sidecar.files.asked) == 1


async def test_a_download_goes_on_over_a_restart_of_the_sidecar(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        data = os.urandom(8 * MIB)
        attachment = sidecar.files.put(data)
        sidecar.files.silent = True
        running = asyncio.create_task(done(sidecar, download_to(tmp_path), attachment))
        await eventually(lambda: sidecar.files.asked)
        await sidecar.stop()
        sidecar.files.silent = False
        sidecar.files.cuts = [3 * MIB]
        await sidecar.start()
        assert content(await running) == data
        assert [one.offset for one in sidecar.files.asked] == [0, 0, 3 * MIB]


async def test_a_download_that_gets_on_is_never_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._beside._MAX_DELAY", 0.01)
    async with FakeSidecar() as sidecar:
        data = os.urandom(100)
        attachment = sidecar.files.put(data)
        sidecar.files.cuts = [5] * 19
        assert await done(sidecar, read, attachment) == data
        assert [one.offset for one in sidecar.files.asked] == list(range(0, 100, 5))


async def test_nothing_is_given_up_while_the_line_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule_client._beside._MAX_DELAY", 0.01)
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.silent = True
        running = asyncio.create_task(done(sidecar, read, attachment))
        await eventually(lambda: sidecar.files.asked)
        await sidecar.stop()
        sidecar.files.silent = False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):  # time for a hundred tries
                await asyncio.shield(running)
        await sidecar.start()
        assert await running == b"text"


async def test_a_download_goes_on_when_its_connection_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._line._WELCOME_TIMEOUT", 0.1)
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.silent = True
        running = asyncio.create_task(done(sidecar, read, attachment))
        await eventually(lambda: sidecar.files.asked)
        sidecar.answer_hello = sidecar.answer_beats = False
        sidecar.files.silent = False
        sidecar.line.cut()  # no welcome: the connection is closed, and the download with it
        await eventually(lambda: len(sidecar.lines) >= 3)
        sidecar.answer_hello = sidecar.answer_beats = True
        assert await running == b"text"


async def test_a_download_that_stands_still_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("capsule_client._files._PIECE_TIMEOUT", 0.1)
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.silent = True
        running = asyncio.create_task(done(sidecar, read, attachment))
        await eventually(lambda: sidecar.files.asked)
        sidecar.files.silent = False
        assert await running == b"text"


async def test_unavailable_for_good_is_raised_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_client._beside._MAX_DELAY", 0.01)
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.refusals = [status("UNAVAILABLE", "STORAGE_UNAVAILABLE")] * 50
        error = await done(sidecar, download_to(tmp_path), attachment)
        assert isinstance(error, capsule.Unavailable)
        assert error.reason == "STORAGE_UNAVAILABLE"
        assert len(sidecar.files.asked) == 9
        assert names(tmp_path) == []


async def test_bytes_that_are_not_the_files_are_refused(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"right")
        file, _ = sidecar.files.kept[attachment.file_id]
        (tmp_path / "notes.txt").write_text("kept")
        for wrong in (b"wrong", b"righ", b"right and more"):
            sidecar.files.kept[attachment.file_id] = (file, wrong)
            for do in (read, download_to(tmp_path)):
                error = await done(sidecar, do, attachment)
                assert type(error) is capsule.CapsuleError
                assert error.reason == "DIGEST_MISMATCH"
        assert names(tmp_path) == ["notes.txt"]
        assert (tmp_path / "notes.txt").read_text() == "kept"


async def test_a_file_that_is_gone_is_not_found() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.kept.clear()
        assert isinstance(await done(sidecar, read, attachment), capsule.NotFound)
        assert len(sidecar.files.asked) == 1


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        sidecar.files.silent = True

        async def do(session: capsule.Session, msg: capsule.Message) -> list[str]:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await msg.attachments[0].download(tmp_path)
            return names(tmp_path)

        assert await done(sidecar, do, attachment) == []


async def test_an_attachment_of_a_turn_that_is_over_says_so() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")

        async def do(session: capsule.Session, msg: capsule.Message) -> capsule.Attachment:
            return msg.attachments[0]

        kept = await done(sidecar, do, attachment)
        with pytest.raises(capsule.Superseded, match="has returned"):
            await kept.read()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("here", "here/passwd"),  # a directory that exists
        ("new/", "new/passwd"),
        ("new", "new"),
        ("a/b/c.txt", "a/b/c.txt"),
    ],
)
async def test_where_a_download_goes(tmp_path: Path, path: str, expected: str) -> None:
    (tmp_path / "here").mkdir()
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text", "../../etc/passwd")
        saved = await done(sidecar, download_to(f"{tmp_path}/{path}"), attachment)
        assert saved == str(tmp_path / expected)
        assert (tmp_path / expected).read_text() == "text"
        made = set(names(Path(saved).parent)) - {"here"}
        assert made == {Path(saved).name}


async def test_a_path_that_the_disk_refuses_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"text")
        error = await done(sidecar, download_to(tmp_path / "file" / "below"), attachment)
        assert isinstance(error, OSError)
        assert isinstance(await done(sidecar, download_to(b"x"), attachment), TypeError)
        assert isinstance(await done(sidecar, download_to(""), attachment), ValueError)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\evil.exe", "evil.exe"),
        (".bashrc", "bashrc"),
        ("..", "file"),
        ("", "file"),
        ("   ", "file"),
        ("a\0b\nc", "a_b_c"),
        ("con:stream", "con_stream"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("é" * 200 + ".txt", "é" * 125 + ".txt"),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_safe_name_leads_nowhere_else(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def attachment_by_hand() -> capsule.Attachment:
    return capsule.Attachment("a.txt", "text/plain", "http://x", 1, "fil_1")


async def test_an_attachment_made_by_hand_says_that_it_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="made by hand"):
        await attachment_by_hand().read()
    with pytest.raises(RuntimeError, match="made by hand"):
        await attachment_by_hand().download(tmp_path)


async def test_what_leads_to_the_bytes_is_no_part_of_the_value() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(b"x", "a.txt")

        async def do(session: capsule.Session, msg: capsule.Message) -> Any:
            return msg.attachments[0]

        given = await done(sidecar, do, attachment)
    plain = capsule.Attachment("a.txt", "text/plain", "http://fake/file", 1, "fil_1")
    assert given == plain
    assert hash(given) == hash(plain)
    assert repr(given) == repr(plain)
    assert dataclasses.asdict(given) == dataclasses.asdict(plain)
    assert pickle.loads(pickle.dumps(given)) == copy.deepcopy(given) == plain
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.name = "other"


async def test_a_large_download_takes_little_memory(tmp_path: Path) -> None:
    async with FakeSidecar() as sidecar:
        sidecar.files.piece = MIB
        attachment = sidecar.files.put(bytes(64 * MIB))
        held: list[int] = []

        async def do(session: capsule.Session, msg: capsule.Message) -> Any:
            import tracemalloc

            tracemalloc.start()
            try:
                await msg.attachments[0].download(tmp_path / "big")
                held.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()

        assert await done(sidecar, do, attachment) is None
        assert (tmp_path / "big").stat().st_size == 64 * MIB
        assert held[0] < 16 * MIB

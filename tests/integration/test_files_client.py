"""Files and images of the Python client, on a real sidecar and over lines that break."""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import file_service_pb2, file_service_pb2_grpc, types_pb2
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy
from tests.support.sidecar import (
    PATIENT,
    Person,
    Running,
    SidecarProcess,
    request_id,
    running_sidecar,
)

Do = Callable[[capsule.Session, capsule.Message], Awaitable[Any]]

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


def app_of(running: Running, do: Do, **options: Any) -> tuple[capsule.App, list[Any]]:
    """Returns an app that does this on every message, and the list of what comes of it."""
    given = {"address": running.address, "token": running.token} | options
    app = capsule.App("support", **given)
    results: list[Any] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.append(await do(session, msg))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results.append(error)

    return app, results


async def uploaded(
    person: Person, data: bytes, name: str = "notes.txt", content_type: str = "text/plain"
) -> str:
    """Uploads a file as a person does; returns its id."""
    stub: Any = file_service_pb2_grpc.FileServiceStub(person.channel)
    header = file_service_pb2.UploadHeader(
        caller=file_service_pb2.FileCaller(identity=person.identity),
        request_id=request_id(),
        name=name,
        content_type=content_type,
    )
    parts = [file_service_pb2.UploadFileRequest(header=header)]
    parts += [
        file_service_pb2.UploadFileRequest(data=data[at : at + MIB])
        for at in range(0, len(data), MIB)
    ]
    answer = await stub.UploadFile(iter(parts), metadata=person.metadata, timeout=30)
    return str(answer.file.file_id)


async def blocks(person: Person, session: str) -> list[types_pb2.Block]:
    """Returns the blocks that a session shows."""
    items = await person.timeline(session)
    return [item.block for item in items if item.WhichOneof("item") == "block"]


async def test_attachments_are_read_downloaded_and_named_also_from_history(tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        names = [one["content"] for one in session.chat_messages(msg) if one["role"] == "user"]
        earlier = [one for message in session.history for one in message.attachments]
        every = [*earlier, *msg.attachments]
        await session.reply("seen")
        return names, [await one.read() for one in every], [one.url for one in every]

    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app, results = app_of(sidecar, do)
        async with app.attached():
            session = await ada.open()
            first = await uploaded(ada, b"one")
            await ada.call("SendMessage", session_id=session, attachments=[first])
            await eventually(lambda: len(results) == 1)
            second = await uploaded(ada, b"twice", "b.bin", "")
            await ada.call("SendMessage", session_id=session, text="and", attachments=[second])
            await eventually(lambda: len(results) == 2)
    names, data, urls = results[0]
    assert names == ["[Attachment: notes.txt (text/plain, 3 bytes)]"]
    assert data == [b"one"]
    names, data, urls = results[1]
    assert names == [
        "[Attachment: notes.txt (text/plain, 3 bytes)]",
        "and\n\n[Attachment: b.bin (application/octet-stream, 5 bytes)]",
    ]
    assert data == [b"one", b"twice"]
    assert all("/files/fil_" in url for url in urls)


async def test_every_kind_of_image_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG + os.urandom(2 * MIB))

    async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(PNG)}\r\n\r\n"
        writer.write(head.encode() + PNG)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(site, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def do(session: capsule.Session, msg: capsule.Message) -> list[str]:
        (attachment,) = msg.attachments
        return [
            await session.show_image(path, alt="A chart", width=320),
            await session.show_image(str(path)),
            await session.show_image(PNG + b"more"),
            await session.show_image("data:image/svg+xml,%3Csvg%20xmlns='x'/%3E"),
            await session.show_image(f"http://127.0.0.1:{port}/dot.png"),
            await session.show_image(attachment),
        ]

    async with (
        server,
        running_sidecar(tmp_path / "home", timing=PATIENT) as sidecar,
        Person(sidecar) as ada,
    ):
        app, results = app_of(sidecar, do)
        async with app.attached():
            session = await ada.open()
            photo = await uploaded(ada, PNG + b"cat", "cat.png", "image/png")
            await ada.call("SendMessage", session_id=session, text="go", attachments=[photo])
            await eventually(lambda: results, timeout=20)
        shown = await blocks(ada, session)
        assert results == [[block.block_id for block in shown]]
        assert {block.type for block in shown} == {"image"}
        payloads = [json.loads(block.payload_json) for block in shown]
        assert (payloads[0]["alt"], payloads[0]["width"]) == ("A chart", 320)
        assert payloads[0]["name"] == "chart.png"
        assert all("/files/" in payload["url"] for payload in payloads)
        assert payloads[5]["file_id"] == photo


async def test_many_images_can_be_shown_at_once(tmp_path: Path) -> None:
    """More than an invocation has places, and with other turns in the way."""
    limits = {"uploads_per_invocation": 4, "handler_uploads": 3}
    async with (
        running_sidecar(tmp_path, timing=PATIENT, limits=limits) as sidecar,
        Person(sidecar) as ada,
    ):

        async def do(session: capsule.Session, msg: capsule.Message) -> list[str]:
            images = (PNG + os.urandom(400_000) for _ in range(20))
            return list(await asyncio.gather(*(session.show_image(image) for image in images)))

        app, results = app_of(sidecar, do)
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            await eventually(lambda: results, timeout=40)
        assert len(set(results[0])) == 20
        assert len(await blocks(ada, session)) == 20


async def test_what_the_sidecar_refuses_of_files_is_our_error(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:

        async def do(session: capsule.Session, msg: capsule.Message) -> Any:
            (mine,) = msg.attachments
            lost = capsule.Attachment("x.png", "image/png", "", 1, "fil_nowhere")
            return await asyncio.gather(
                session.show_image(lost),
                session.show_image(PNG, alt="x" * 1001),
                mine.read(),
                return_exceptions=True,
            )

        app, results = app_of(sidecar, do)
        async with app.attached():
            session = await ada.open()
            file_id = await uploaded(ada, b"text")
            await ada.call("SendMessage", session_id=session, text="go", attachments=[file_id])
            await eventually(lambda: results)
        lost, long, mine = results[0]
        assert isinstance(lost, capsule.NotFound)
        assert isinstance(long, capsule.InvalidArgument | capsule.LimitExceeded)
        assert mine == b"text"
        assert await blocks(ada, session) == []


async def test_an_image_shown_again_by_a_later_attempt_is_shown_once(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        attempts: list[int] = []

        async def do(session: capsule.Session, msg: capsule.Message) -> Any:
            attempts.append(session.attempt)
            await session.show_image(PNG, alt="A dot")
            await session.show_step("Draw", "running" if session.attempt == 1 else "completed")
            if session.attempt == 1:
                await session.prompt_approval("Go on?")

        first, _ = app_of(sidecar, do)
        second, done = app_of(sidecar, do)
        session = await ada.open()
        async with first.attached():
            await ada.say(session, "go")
            await eventually(lambda: attempts)

            async def waits() -> bool:
                items = await ada.timeline(session)
                return any(item.WhichOneof("item") == "prompt" for item in items)

            await eventually(waits)
        async with second.attached():
            await eventually(lambda: done)
        assert attempts == [1, 2]
        image, step = await blocks(ada, session)
        assert image.type == "image"
        assert json.loads(step.payload_json)["status"] == "completed"


@pytest.mark.deadline(120)
async def test_a_download_over_a_line_that_breaks_goes_on_where_it_was(tmp_path: Path) -> None:
    data = os.urandom(24 * MIB)

    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return await msg.attachments[0].download(tmp_path / "got")

    async with (
        running_sidecar(tmp_path / "home", timing=PATIENT) as sidecar,
        Person(sidecar) as ada,
    ):
        port = int(sidecar.address.rpartition(":")[2])
        async with FaultProxy("127.0.0.1", port) as proxy:
            app, results = app_of(sidecar, do, address=proxy.address)
            async with app.attached():
                session = await ada.open()
                file_id = await uploaded(ada, data)
                for after in (5 * MIB, 3 * MIB):
                    proxy.truncate(after)
                    if after == 5 * MIB:
                        await ada.call("SendMessage", session_id=session, attachments=[file_id])
                    broken = 1 + (after == 3 * MIB)
                    await eventually(lambda: proxy.truncated == broken, timeout=30)  # noqa: B023
                await eventually(lambda: results, timeout=60)
            assert results == [str(tmp_path / "got")]
            assert (tmp_path / "got").read_bytes() == data
            assert proxy.accepted >= 3


@pytest.mark.deadline(120)
async def test_files_go_on_over_a_kill_of_the_sidecar(tmp_path: Path) -> None:
    picture = tmp_path / "big.png"
    picture.write_bytes(PNG + os.urandom(20 * MIB))
    data = os.urandom(20 * MIB)
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        begun.set()
        await go_on.wait()  # the sidecar is dead by now
        return await asyncio.gather(msg.attachments[0].read(), session.show_image(picture))

    async with SidecarProcess(tmp_path / "home") as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        process.environment["CAPSULE_TIMING__FRESH_BEAT"] = "6"
        sidecar = await process.start()
        app, results = app_of(sidecar, do)
        async with app.attached():
            async with Person(sidecar) as ada:
                session = await ada.open()
                file_id = await uploaded(ada, data)
                await ada.call("SendMessage", session_id=session, attachments=[file_id])
                await asyncio.wait_for(begun.wait(), 20)
            await process.kill()
            go_on.set()
            await process.start()
            await eventually(lambda: results, timeout=60)
        got, block_id = results[0]
        assert got == data
        async with Person(sidecar) as ada:
            assert [block.block_id for block in await blocks(ada, session)] == [block_id]


@pytest.mark.deadline(120)
async def test_a_hundred_mebibytes_go_both_ways_in_little_memory(tmp_path: Path) -> None:
    picture = tmp_path / "huge.png"
    with picture.open("wb") as file:
        file.write(PNG)
        file.truncate(100 * MIB)
    held: list[int] = []

    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        tracemalloc.start()
        try:
            await session.show_image(picture)
            shown = await blocks(ada, session.id)
            payload = json.loads(shown[0].payload_json)
            attachment = session._calls.files.lead(
                capsule.Attachment("huge.png", "image/png", "", 0, payload["file_id"])
            )
            return await attachment.download(tmp_path / "back.png")
        finally:
            held.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    async with SidecarProcess(tmp_path / "home") as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        sidecar = await process.start()
        async with Person(sidecar) as ada:
            app, results = app_of(sidecar, do)
            async with app.attached():
                await ada.say(await ada.open(), "go")
                await eventually(lambda: results, timeout=100)
        assert results == [str(tmp_path / "back.png")]
        assert (tmp_path / "back.png").stat().st_size == 100 * MIB
        assert held[0] < 24 * MIB, f"{held[0] / MIB:.1f} MiB"

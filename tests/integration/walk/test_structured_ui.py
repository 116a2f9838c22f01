"""Structured UI: blocks, images, suggestions, steps, the title."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from tests.integration.walk.stage import PNG, delivered_twice, stage, walks
from tests.support.sidecar import Running


@walks("Session.show", "Block")
async def test_a_block_is_shown_with_its_type_and_payload(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return await session.show(capsule.Block("acme.card", {"n": [1, None]}))

    async with stage(sidecar, do) as step:
        block_id = await step.gives()
        (block,) = await step.blocks()
        assert (block.block_id, block.type) == (block_id, "acme.card")
        assert json.loads(block.payload_json) == {"n": [1, None]}


@walks("Session.show", "Block")
async def test_a_block_without_an_id_is_a_new_one_each_time(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show(capsule.Block("card", {"n": 1}))
        await session.show(capsule.Block("card", {"n": 1}))

    async with stage(sidecar, do) as step:
        await step.gives()
        assert len(await step.blocks()) == 2


@walks("Session.show", "Block")
async def test_showing_the_same_id_again_updates_in_place_wherever_it_is_displayed(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        if msg.text == "first":
            await session.show(capsule.Block("card", {"n": 1}, id="b"))
            await session.reply("below it")
        else:  # a later turn, too
            await session.show(capsule.Block("card", {"n": 2}, id="b"))

    async with stage(sidecar, do) as step, await step.follow() as one:
        async with await step.follow() as another:
            await step.gives("first")
            await step.gives("second")
            for screen in (one, another):
                changed = await screen.sees("block_shown", 2)
                assert json.loads(changed.block_shown.block.payload_json) == {"n": 2}
                assert changed.item_offset == (await screen.sees("block_shown")).offset
        # After a reload: one block, in the place of the first, with the newest payload.
        items = await step.person.timeline(step.session)
        kinds = [str(item.WhichOneof("item")) for item in items]
        assert kinds == ["message", "block", "message", "message"]
        assert json.loads(items[1].block.payload_json) == {"n": 2}


@walks("Session.show_image")
@pytest.mark.parametrize("source", ["http", "data", "path", "Path", "bytes", "Attachment"])
async def test_an_image_is_uploaded_and_served_by_the_sidecar(
    sidecar: Running, tmp_path: Path, source: str
) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG)
    fetched: list[bytes] = []

    async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetched.append(await reader.readuntil(b"\r\n\r\n"))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(PNG)}\r\n\r\n"
        writer.write(head.encode() + PNG)
        await writer.drain()
        writer.close()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        sources: dict[str, Any] = {
            "http": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dot.png",
            "data": "data:image/png;base64,iVBORw0KGgo" + "A" * 69,
            "path": str(path),
            "Path": path,
            "bytes": PNG,
            "Attachment": msg.attachments[0],
        }
        await session.show_image(sources[source], alt="A chart", width=320)

    server = await asyncio.start_server(site, "127.0.0.1", 0)
    async with server, stage(sidecar, do) as step:
        file_id = await step.uploads(PNG, "mine.png", "image/png")
        await step.gives(attachments=[file_id])
        (block,) = await step.blocks()
        shown = json.loads(block.payload_json)
        assert block.type == "image"
        assert (shown["alt"], shown["width"]) == ("A chart", 320)
        assert (await step.downloads(shown["file_id"])).startswith(b"\x89PNG")
        assert f"/files/{shown['file_id']}" in shown["url"]  # never a third party's address
        assert len(fetched) == (source == "http")


@walks("Session.show_image")
async def test_an_address_with_more_than_twenty_mebibytes_is_not_read(sidecar: Running) -> None:
    async def site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = 20 * 2**20 + 1
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + PNG)
        await writer.drain()
        writer.close()

    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(capsule.LimitExceeded):
            await session.show_image(f"http://127.0.0.1:{port}/large.png")

    server = await asyncio.start_server(site, "127.0.0.1", 0)
    async with server, stage(sidecar, do) as step:
        await step.gives()
        assert await step.blocks() == []


@walks("Session.show_suggestions")
async def test_suggestions_are_quick_replies(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_suggestions(["Yes", {"label": "No", "text": "No, thank you"}])

    async with stage(sidecar, do) as step:
        await step.gives()
        (block,) = await step.blocks()
        assert block.type == "suggestions"
        assert json.loads(block.payload_json) == {
            "items": ["Yes", {"label": "No", "text": "No, thank you"}]
        }


@walks("Session.show_step")
async def test_a_step_is_updated_in_place(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_step("Search", "running")
        await session.show_step("Read", "pending")
        await session.show_step("Search", "completed", detail="3 found")

    async with stage(sidecar, do) as step:
        await step.gives()
        shown = [json.loads(block.payload_json) for block in await step.blocks()]
        assert [(one["label"], one["status"]) for one in shown] == [
            ("Search", "completed"), ("Read", "pending"),
        ]  # fmt: skip
        assert shown[0]["detail"] == "3 found"


@walks("Session.show_step")
async def test_a_step_of_a_turn_that_is_delivered_again_is_the_same_one(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.show_step("Search", "running" if session.attempt == 1 else "completed")

    async with delivered_twice(sidecar, do) as step:
        shown = [json.loads(block.payload_json) for block in await step.blocks()]
        assert [one["status"] for one in shown] == ["completed"]


@walks("Session.set_title")
async def test_the_title_of_the_session_is_set(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        await session.set_title("Renewal of the contract")

    async with stage(sidecar, do) as step:
        await step.gives()
        page = await step.person.call("GetTimeline", session_id=step.session)
        assert page.session.title == "Renewal of the contract"

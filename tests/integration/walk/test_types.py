"""`Message`, `Attachment`, `FileUpload`, `UserInfo`: what handlers read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import capsule_client as capsule
from tests.integration.walk.stage import app_of, stage, walks
from tests.support.http import Browser
from tests.support.sidecar import Person, Running

WEEK = 7 * 86_400


def contents(folder: Path) -> dict[str, bytes]:
    """Returns what lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def _message(session: capsule.Session, msg: capsule.Message) -> capsule.Message:
    return msg


@walks(
    "Message.text", "Message.sender", "Message.channel_type", "Message.timestamp",
    "Message.attachments", "Message.id",
)  # fmt: skip
async def test_a_message_has_its_fields(sidecar: Running) -> None:
    async with stage(sidecar, _message) as step:
        message = await step.gives("hello")
        assert isinstance(message, capsule.Message)
        assert (message.text, message.sender, message.channel_type) == ("hello", "user", "terminal")
        assert abs(message.timestamp - time.time()) < 60  # Unix epoch seconds
        assert list(message.attachments) == []
        assert message.id == (await step.messages())[0].message_id


@walks("Message", "Attachment", "FileUpload", "Block", "UserInfo", "SessionChannel")
def test_the_types_are_built_by_their_fields_in_the_documents_order() -> None:
    file = capsule.Attachment("a.txt", "text/plain", "https://example.com/a", 5, "fil_1")
    assert (file.name, file.content_type, file.url, file.size, file.id) == (
        "a.txt", "text/plain", "https://example.com/a", 5, "fil_1",
    )  # fmt: skip
    upload = capsule.FileUpload("a.txt", "text/plain", "", 5, "fil_1", "/tmp/a.txt")
    assert (upload.name, upload.path) == ("a.txt", "/tmp/a.txt")
    message = capsule.Message("hello", "user", "chat", 1.5, [file], "msg_1")
    assert (message.text, message.sender, message.channel_type, message.timestamp) == (
        "hello", "user", "chat", 1.5,
    )  # fmt: skip
    assert (list(message.attachments), message.id) == ([file], "msg_1")
    block = capsule.Block("card", {"n": 1})
    assert (block.type, block.payload, block.id) == ("card", {"n": 1}, "")
    user = capsule.UserInfo("usr_1", "ada@example.com", "acme")
    assert (user.id, user.email, user.org_id) == ("usr_1", "ada@example.com", "acme")
    assert capsule.SessionChannel("chat").type == "chat"


@walks("Message.sender")
async def test_the_sender_is_the_user_or_the_app(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        await session.reply("hello")
        return [one.sender for one in session.history]

    async with stage(sidecar, do) as step:
        await step.gives()
        assert await step.gives() == ["user", "app"]


@walks(
    "Attachment.name", "Attachment.content_type", "Attachment.url", "Attachment.size",
    "Attachment.id",
)  # fmt: skip
async def test_an_attachment_has_its_fields(sidecar: Running) -> None:
    async with stage(sidecar, _message) as step:
        file_id = await step.uploads(b"words", "notes.txt", "text/plain")
        (one,) = (await step.gives(attachments=[file_id])).attachments
        assert isinstance(one, capsule.Attachment)
        assert (one.name, one.content_type, one.size) == ("notes.txt", "text/plain", 5)
        assert one.id == file_id
        assert urlsplit(one.url).path.endswith(f"/{file_id}/notes.txt")


@walks("Attachment.url")
async def test_urls_are_signed_and_valid_for_seven_days(sidecar: Running) -> None:
    async with stage(sidecar, _message) as step:
        file_id = await step.uploads(b"words")
        (one,) = (await step.gives(attachments=[file_id])).attachments
    expires = int(parse_qs(urlsplit(one.url).query)["expires"][0])
    assert WEEK - 3600 <= expires - time.time() <= WEEK + 3600
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(one.url)).content == b"words"
        forged = one.url.replace(f"expires={expires}", f"expires={expires + 1}")
        assert (await http.get(forged)).status_code == 403


@walks("Attachment.read")
async def test_an_attachment_is_read(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> bytes:
        return await msg.attachments[0].read()

    async with stage(sidecar, do) as step:
        file_id = await step.uploads(b"words" * 100_000)
        assert await step.gives(attachments=[file_id]) == b"words" * 100_000


@walks("Attachment.download")
async def test_an_attachment_is_downloaded_under_its_own_name_without_leftovers(
    sidecar: Running, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 4096  # several chunks

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await msg.attachments[0].download(tmp_path / "in" / "copy.bin")

    async with stage(sidecar, do) as step:
        file_id = await step.uploads(data, "data.bin")
        where = await step.gives(attachments=[file_id])
    assert where == str(tmp_path / "in" / "copy.bin")
    assert contents(tmp_path / "in") == {"copy.bin": data}


@walks("Attachment.download")
async def test_a_download_whose_bytes_are_not_those_of_the_file_is_an_error(
    sidecar: Running, tmp_path: Path
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> None:
        with pytest.raises(capsule.CapsuleError):
            await msg.attachments[0].download(tmp_path / "copy.txt")

    async with stage(sidecar, do) as step:
        file_id = await step.uploads(b"words that were written")
        (stored,) = [
            path
            for path in (sidecar.home / "files").rglob("*")
            if path.is_file() and path.read_bytes() == b"words that were written"
        ]
        stored.write_bytes(b"words that were changed")
        await step.gives(attachments=[file_id])
    assert contents(tmp_path) == {}


@walks(
    "FileUpload", "FileUpload.path", "FileUpload.download", "FileUpload.read", "FileUpload.url",
)  # fmt: skip
async def test_a_file_upload_is_an_attachment_with_a_path(sidecar: Running, tmp_path: Path) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        upload = await session.prompt_file(path=tmp_path)
        copy = await upload.download(tmp_path / "copy.txt")
        return upload, copy, await upload.read()

    async with stage(sidecar, do) as step:
        await step.says()
        file_id = await step.uploads(b"words")
        await step.answers(await step.asked(), file_id=file_id)
        upload, copy, data = await step.result()
    assert isinstance(upload, capsule.FileUpload)
    assert isinstance(upload, capsule.Attachment)
    assert (upload.name, upload.content_type, upload.size) == ("notes.txt", "text/plain", 5)
    assert (upload.id, upload.path) == (file_id, str(tmp_path / "notes.txt"))
    assert upload.url
    assert copy == str(tmp_path / "copy.txt")
    assert contents(tmp_path) == {"notes.txt": data, "copy.txt": b"words"}


@walks("UserInfo.id", "UserInfo.email", "UserInfo.org_id", "UserInfo.owner_id")
async def test_a_users_owner_id_is_the_id_without_an_organisation(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.user

    async with stage(sidecar, do) as step:
        user = await step.gives()
    assert user.id
    assert (user.email, user.org_id) == ("", "")
    assert user.owner_id == user.id


@walks("UserInfo.owner_id")
def test_a_members_owner_id_is_that_of_the_organisation() -> None:
    assert capsule.UserInfo("usr_1", org_id="acme").owner_id == "org:acme"


@walks("UserInfo.id")
async def test_the_same_person_in_two_apps_is_two_users(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        assert session.user is not None
        return session.user.id

    async with stage(sidecar, do) as one, stage(sidecar, do) as another:
        assert await one.gives() != await another.gives()


@walks("SessionChannel.type")
async def test_a_guest_of_the_page_is_on_the_channel_chat(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return session.channel.type, msg.channel_type

    async with stage(sidecar, do) as step, Browser(sidecar, step.app) as guest:
        await guest.sign_in()
        await guest.say(await guest.open(), "hello")
        assert await step.result() == ("chat", "chat")


@walks("Action.name", "Action.block_id", "Action.payload")
async def test_an_action_has_its_fields(sidecar: Running) -> None:
    app = app_of(sidecar)
    clicks: asyncio.Queue[capsule.Action] = asyncio.Queue(maxsize=1)

    @app.action("pick")
    async def pick(session: capsule.Session, action: capsule.Action) -> None:
        clicks.put_nowait(action)

    async with app.attached(), Person(sidecar, app=app.name) as ada:
        await ada.call(
            "SendAction", session_id=await ada.open(), name="pick", block_id="b",
            payload_json=b'{"n": [1, null]}',
        )  # fmt: skip
        action = await asyncio.wait_for(clicks.get(), 15)
    assert (action.name, action.block_id) == ("pick", "b")
    assert action.payload == {"n": [1, None]}

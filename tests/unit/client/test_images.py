"""`show_image`: what a source is, and how it reaches the sidecar."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

import capsule_client as capsule
from capsule_client import _fetch
from capsule_client._images import media_type
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, message, status

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50
GIF = b"GIF89a" + b"\0" * 20
SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="x"></svg>'
HTML = b"<!doctype html><html><svg></svg></html>"
MIB = 1024 * 1024


async def shown(sidecar: FakeSidecar, source: Any, *attachments: Any, **options: Any) -> Any:
    """Shows an image in one turn; returns the block's id, or the error."""
    app = capsule.App("demo", address=sidecar.address, token=TOKEN)
    results: list[Any] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            what = source(session, msg) if callable(source) else source
            results.append(await session.show_image(what, **options))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results.append(error)

    async with app.attached():
        turn = pb.Turn(message=message("look", attachments=attachments))
        invocation = sidecar.invocation(turn=turn)
        sidecar.line.send(pb.SidecarFrame(invocation=invocation))
        await sidecar.outcome(invocation, timeout=30)
    return results[0]


def only_file(sidecar: FakeSidecar) -> tuple[str, str, bytes]:
    ((file, data),) = sidecar.files.kept.values()
    return file.name, file.content_type, data


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0more", "image/jpeg"),
        (GIF, "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x20ftypavif\0\0\0\0mif1", "image/avif"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "image/avif"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0" + b"\0" * 20, "image/bmp"),
        (SVG, "image/svg+xml"),
        (b"\xef\xbb\xbf  <SVG width='1'/>", "image/svg+xml"),
        (b"", ""),
        (b"BMW is a car, and this is a text of some length", ""),
        (b"\0\0\0\x20ftypmp42", ""),
        (HTML, ""),
        (b"RIFF\x10\0\0\0WAVEfmt ", ""),
    ],
)
def test_the_first_bytes_say_what_an_image_is(head: bytes, kind: str) -> None:
    assert media_type(head) == kind


@pytest.mark.parametrize(
    ("name", "told", "kind"),
    [
        ("photo.tiff", "", "image/tiff"),
        ("photo", "image/tiff; q=1", "image/tiff"),
        ("photo.tiff", "application/octet-stream", "image/tiff"),
        ("photo.png", "", ""),  # a PNG without the mark of one is none
        ("photo", "image/jpeg", ""),
        ("page.html", "", ""),
        ("photo.tiff", "text/html", ""),
        ("photo", "", ""),
    ],
)
def test_what_has_no_mark_is_known_by_type_or_name(name: str, told: str, kind: str) -> None:
    assert media_type(b"II*\0....", name, told) == kind


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_are_uploaded_with_size_and_digest_and_shown(kind: Any) -> None:
    async with FakeSidecar() as sidecar:
        block = await shown(sidecar, kind(PNG), alt="A dot", width=320)
        assert only_file(sidecar) == ("image.png", "image/png", PNG)
        (header,) = sidecar.files.headers
        assert (header.caller.invocation_id, header.caller.attempt) == ("i-1", 1)
        assert (header.size, header.sha256) == (len(PNG), hashlib.sha256(PNG).digest())
        (command,) = sidecar.line.commands("show_image")
        request = command.show_image
        assert (request.file_id, request.alt, request.width) == ("fil_1", "A dot", 320)
        assert (request.invocation_id, request.attempt) == ("i-1", 1)
        assert request.request_id
        assert block.startswith("b-")


@pytest.mark.parametrize("form", [str, Path])
async def test_a_path_is_uploaded_in_pieces(tmp_path: Path, form: Any) -> None:
    data = PNG + os.urandom(3 * MIB)
    path = tmp_path / "data:" / "chart.png"  # a path unless it begins as an address does
    path.parent.mkdir()
    path.write_bytes(data)
    async with FakeSidecar() as sidecar:
        assert isinstance(await shown(sidecar, form(path)), str)
        assert only_file(sidecar) == ("chart.png", "image/png", data)
        assert 0 < sidecar.files.largest <= MIB
        assert sidecar.line.commands("show_image")[0].show_image.width == 0


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), PNG),
        ("DATA:;charset=x; BASE64," + base64.b64encode(GIF).decode().rstrip("="), GIF),
        ("data:image/svg+xml," + quote_from_bytes(SVG), SVG),
        ("data:image/svg+xml;base64," + quote_from_bytes(base64.b64encode(SVG)), SVG),
        ("data:,%3Csvg%3E", b"<svg>"),
    ],
)
async def test_a_data_url_is_taken_in_both_forms(url: str, data: bytes) -> None:
    async with FakeSidecar() as sidecar:
        assert isinstance(await shown(sidecar, url), str)
        assert only_file(sidecar)[2] == data


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (b"text", ValueError, "these bytes are no image"),
        (b"", ValueError, "no image"),
        ("data:text/plain,hello", ValueError, "the data URL is no image"),
        ("data:image/png;base64,aGVsbG8=", ValueError, "no image"),
        ("data:image/png;base64,a!b", ValueError, "not base64"),
        ("data:image/png", ValueError, "no comma"),
        ("http:nowhere", ValueError, "names no host"),
        ("http://a:b:c/x", ValueError, "malformed"),
        ("http://[::1", ValueError, "malformed"),
        ("http://ho st/x", ValueError, "no valid address"),
        ("ftp://host/x.png", ValueError, "begins with http:, https: or data:, not 'ftp:'"),
        ("FILE:///etc/x.png", ValueError, "not 'FILE:'"),
        (" http://127.0.0.1:1/x", ValueError, "not ' http:'"),
        ("\ndata:,%3Csvg%3E", ValueError, "begins with http:"),
        ("", ValueError, "is empty"),
        ("http://user:geheim@127.0.0.1:1/x", ValueError, "has a user name or password"),
        ("http://user@127.0.0.1:1/x", ValueError, "has a user name or password"),
        ("/nowhere/at/all.png", FileNotFoundError, "nowhere"),
        ("/", ValueError, "it is no file"),
        (__file__, ValueError, "is no image"),
        (None, TypeError, "not a NoneType"),
        (7, TypeError, "not a int"),
        (capsule.Attachment("a", "text/plain", "", 1, "f"), ValueError, "no image but text/plain"),
        (capsule.Attachment("a", "", "", 1, "f"), ValueError, "no image: its type is unknown"),
        (capsule.Attachment("a", "image/png", "", 1, ""), ValueError, "has no id"),
    ],
)
async def test_what_is_no_image_is_refused_before_anything_is_sent(
    source: Any, error: type[Exception], words: str
) -> None:
    async with FakeSidecar() as sidecar:
        found = await shown(sidecar, source)
        with pytest.raises(error, match=words):
            raise found
        assert not sidecar.files.metadata
        assert not sidecar.line.commands()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"width": 0}, ValueError),
        ({"width": 4097}, ValueError),
        ({"width": 3.5}, TypeError),
        ({"width": True}, TypeError),
        ({"alt": 7}, TypeError),
    ],
)
async def test_alt_and_width_are_looked_at_first(
    options: dict[str, Any], error: type[Exception]
) -> None:
    async with FakeSidecar() as sidecar:
        assert isinstance(await shown(sidecar, PNG, **options), error)
        assert not sidecar.files.metadata


async def test_an_attachment_of_this_session_is_shown_without_an_upload() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(PNG, "cat.png", "image/png")
        block = await shown(sidecar, lambda session, msg: msg.attachments[0], attachment)
        assert isinstance(block, str)
        assert not sidecar.files.headers
        (command,) = sidecar.line.commands("show_image")
        assert command.show_image.file_id == attachment.file_id


async def test_an_attachment_of_another_session_is_copied() -> None:
    async with FakeSidecar() as sidecar:
        attachment = sidecar.files.put(PNG, "cat.png", "image/png")
        by_hand = capsule.Attachment("cat.png", "image/png", "", len(PNG), attachment.file_id)
        assert isinstance(await shown(sidecar, by_hand), str)
        assert [one.name for one in sidecar.files.headers] == ["cat.png"]
        assert sidecar.line.commands("show_image")[0].show_image.file_id != attachment.file_id


async def test_an_upload_that_is_cut_begins_anew_under_the_same_request_id(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG + os.urandom(2 * MIB))
    async with FakeSidecar() as sidecar:
        sidecar.files.cuts = [1, MIB]
        sidecar.files.refusals = [status("UNAVAILABLE", "STORAGE_UNAVAILABLE")]
        assert isinstance(await shown(sidecar, path), str)
        assert len(sidecar.files.headers) == 3
        assert len({one.request_id for one in sidecar.files.headers}) == 1
        assert only_file(sidecar)[2] == path.read_bytes()


async def test_an_upload_that_is_refused_raises_our_error(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG + os.urandom(4 * MIB))  # refused in the middle of it
    async with FakeSidecar() as sidecar:
        sidecar.files.refusals = [status("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", limit="file")]
        error = await shown(sidecar, path)
        assert isinstance(error, capsule.LimitExceeded)
        assert error.metadata == {"limit": "file"}
        assert not sidecar.line.commands()


async def test_a_file_over_the_welcomes_limit_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG)
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_file_bytes = 10
        error = await shown(sidecar, path)
        assert isinstance(error, capsule.LimitExceeded)
        told = f"chart.png has {len(PNG)} bytes; a file has at most 10"
        assert str(error) == f"{told} (limits.max_file_bytes of the sidecar)"
        assert not sidecar.files.metadata


# Addresses.

Answer = Callable[[str, asyncio.StreamWriter], Any]


class Site:
    """A tiny HTTP server: `paths` maps a path to what is written, or to who writes it."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes | Answer] = {}
        self.asked: list[str] = []
        self.url = ""
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.asked.append(path)
            answer = self.paths.get(path, answer_of(b"", status="404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(path, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


def answer_of(
    body: bytes, kind: str = "image/png", status: str = "200 OK", more: str = ""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def moved(to: str, status: str = "302 Found") -> bytes:
    return answer_of(b"moved", "text/html", status, f"Location: {to}\r\n")


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


async def test_an_address_is_loaded_here_and_uploaded() -> None:
    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/a%20cat/t%C3%BCr.png?size=1&b=%2F"] = answer_of(PNG, "image/png; charset=x")
        source = web.url.replace("http", "HTTP", 1) + "/a cat/tür.png?size=1&b=%2F#part"
        assert isinstance(await shown(sidecar, source), str)
        assert only_file(sidecar) == ("tür.png", "image/png", PNG)


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "image/jpeg", "", "text/plain", "text/html"]
)
async def test_its_first_bytes_go_before_what_the_answer_says(kind: str) -> None:
    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x"] = answer_of(PNG, kind)
        assert isinstance(await shown(sidecar, f"{web.url}/x"), str)
        assert only_file(sidecar)[1] == "image/png"


async def test_of_what_is_no_image_the_beginning_is_read_and_no_more() -> None:
    async with FakeSidecar() as sidecar, site() as web:

        async def endless(_: str, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
            while True:
                writer.write(HTML * 100)
                await writer.drain()

        web.paths["/x"] = endless
        error = await shown(sidecar, f"{web.url}/x")
        assert isinstance(error, ValueError)
        assert str(error).endswith("is no image but text/html")
        await eventually(lambda: not web.open, message="the connection is ended")


async def test_a_redirect_to_an_address_with_a_password_is_not_followed() -> None:
    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x"] = moved(web.url.replace("://", "://user:geheim@") + "/y")
        error = await shown(sidecar, f"{web.url}/x")
        assert isinstance(error, ValueError)
        assert "has a user name or password" in str(error)
        assert "geheim" not in str(error)
        assert web.asked == ["/x"]


async def test_five_redirects_are_followed_and_no_sixth() -> None:
    async with FakeSidecar() as sidecar, site() as web:
        for number, state in enumerate(("301 A", "302 B", "303 C", "307 D", "308 E", "302 F")):
            web.paths[f"/{number}"] = moved(f"/{number + 1}", state)
        web.paths["/6"] = answer_of(PNG)
        assert isinstance(await shown(sidecar, f"{web.url}/1"), str)
        error = await shown(sidecar, f"{web.url}/0")
        assert isinstance(error, ValueError)
        assert "more than 5 times" in str(error)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
async def test_a_redirect_elsewhere_than_to_http_is_not_followed(target: str) -> None:
    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x"] = moved(target)
        error = await shown(sidecar, f"{web.url}/x")
        assert isinstance(error, ValueError)
        assert "no http(s) address" in str(error)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (answer_of(b"", status="404 Not Found"), ValueError, "answered by 404"),
        (answer_of(HTML, "text/html"), ValueError, "no image but text/html"),
        (answer_of(HTML, "image/png"), ValueError, "no image"),
        (answer_of(b"", "image/png"), ValueError, "no image"),
        (answer_of(PNG)[:-5], capsule.Unavailable, "ended before its end"),
        (b"nonsense\r\n\r\n", capsule.Unavailable, "cannot be loaded"),
        (b"", capsule.Unavailable, "cannot be loaded"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Type: image/png\r\n\r\n",
            capsule.LimitExceeded,
            "larger than",
        ),
    ],
)
async def test_what_an_address_does_not_give_is_told_without_its_secrets(
    answer: bytes, error: type[Exception], words: str
) -> None:
    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x?token=geheim"] = answer
        found = await shown(sidecar, f"{web.url}/x?token=geheim")
        with pytest.raises(error, match=words):
            raise found
        assert "geheim" not in str(found)
        assert not sidecar.files.metadata


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "MAX_BYTES", 300_000)

    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
        while True:
            writer.write(PNG * 1000)
            await writer.drain()

    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x"] = endless
        assert isinstance(await shown(sidecar, f"{web.url}/x"), capsule.LimitExceeded)
        await eventually(lambda: web.open == 0)


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"])
async def test_an_answer_that_drips_is_given_up_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, after: bytes
) -> None:
    monkeypatch.setattr(_fetch, "TIMEOUT", 0.4)

    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(after or b"HTTP/1.1 200 OK\r\nX-More: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with FakeSidecar() as sidecar, site() as web:
        web.paths["/x"] = drip
        error = await shown(sidecar, f"{web.url}/x")
        assert isinstance(error, capsule.Unavailable)
        assert "within 0.4 s" in str(error)
        await eventually(lambda: web.open == 0)


async def test_an_address_where_nobody_is_cannot_be_reached() -> None:
    async with FakeSidecar() as sidecar:
        async with site() as web:
            url = web.url
        error = await shown(sidecar, f"{url}/x")
        assert isinstance(error, capsule.Unavailable)
        assert "cannot be reached" in str(error)


# Steps and suggestions.


async def test_a_step_changes_in_its_place_also_in_a_later_attempt() -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        ids: list[str] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            ids.append(await session.show_step("Search", "running"))
            ids.append(await session.show_step("Search", "completed", detail="3 found"))
            ids.append(await session.show_step("Read", "pending"))
            ids.append(await session.show_step("Read", "failed", id="mine"))

        async with app.attached():
            first = sidecar.invoke()
            await sidecar.outcome(first)
            again = sidecar.invoke(invocation_id=first.invocation_id, attempt=2)
            await sidecar.outcome(again)
            await sidecar.outcome(sidecar.invoke())
        assert ids[0] == ids[1] != ids[2]
        assert ids[:4] == ids[4:8]
        assert ids[8] not in ids[:8]
        assert ids[3] == "mine"
        blocks = [one.show_block.block for one in sidecar.line.commands("show_block")]
        assert {one.type for one in blocks} == {"step"}
        assert blocks[0].payload_json == b'{"label":"Search","status":"running"}'
        assert blocks[1].payload_json == (
            b'{"label":"Search","status":"completed","detail":"3 found"}'
        )


@pytest.mark.parametrize("payload", [[1], [("a", 1)], "text", None])
async def test_a_payload_that_is_no_mapping_is_refused_by_the_blocks_type(payload: Any) -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)
        told: list[str] = []

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            with pytest.raises(TypeError) as caught:
                await session.show(capsule.Block("x", payload))
            told.append(str(caught.value))

        async with app.attached():
            await sidecar.outcome(sidecar.invoke())
        kind = type(payload).__name__
        assert told == [f"the payload of block 'x' is a mapping, not a {kind}"]
        assert not sidecar.line.commands("show_block")


@pytest.mark.parametrize("name", ["done", "error", "", "Running"])
async def test_another_status_of_a_step_is_refused_with_those_there_are(name: str) -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            with pytest.raises(ValueError, match="pending, running, completed, failed; not"):
                await session.show_step("Search", name)
            with pytest.raises(TypeError, match="label is a string"):
                await session.show_step(7, "running")  # type: ignore[arg-type]  # what is tested

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED


async def test_suggestions_are_strings_or_labels_with_texts() -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            block = await session.show_suggestions(["Yes", {"label": "No", "text": "No, thanks"}])
            assert block
            for wrong in ("Yes", {"label": "x"}, [1]):
                with pytest.raises(TypeError):
                    await session.show_suggestions(wrong)  # type: ignore[arg-type]  # what is tested

        async with app.attached():
            outcome = await sidecar.outcome(sidecar.invoke())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        (command,) = sidecar.line.commands()
        assert command.show_block.block.type == "suggestions"
        assert command.show_block.block.payload_json == (
            b'{"items":["Yes",{"label":"No","text":"No, thanks"}]}'
        )

"""Files over HTTP: up in one part of a form, down by a signed address, safe for whoever looks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import time
import uuid
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.files import rows, stored
from tests.support.http import Browser, Line, problem, served

HEAD = (
    "POST /apps/support/v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: capsule_support={token}\r\n"
    "content-type: multipart/form-data; boundary=b\r\n"
)
PART = '--b\r\ncontent-disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'


async def test_a_file_comes_down_as_it_went_up(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(data, "år.png", "image/png")
        assert (file["name"], file["content_type"], file["size"]) == (
            "år.png", "image/png", str(len(data)),
        )  # fmt: skip
        assert base64.b64decode(file["sha256"]) == hashlib.sha256(data).digest()
        assert file["url"].startswith(f"{running.http}/files/{file['file_id']}/")
        answer = await me.http.get(file["url"])
        assert answer.content == data
        described = (await me.get(f"/files/{file['file_id']}")).json()["file"]
        assert described["sha256"] == file["sha256"]
        assert await _is_kept(tmp_path, file["file_id"])


async def _is_kept(home: Path, file_id: str) -> bool:
    return stored(home) == [file_id] and rows(home) == [(file_id, 2)]


async def test_an_upload_that_is_sent_again_is_the_first_one(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        same = str(uuid.uuid4())
        first = await me.upload(b"one", request_id=same)
        assert (await me.upload(b"one", request_id=same))["file_id"] == first["file_id"]
        again = await me.try_upload(b"two", "notes.txt", request_id=same)
        problem(again, 409, "REQUEST_ID_REUSED")
        await eventually(lambda: _is_kept(tmp_path, first["file_id"]), message="one is kept")


async def test_a_range_of_a_file_is_served_as_rfc_9110_says(tmp_path: Path) -> None:
    data = os.urandom(1000)
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        url = (await me.upload(data))["url"]
        whole = await me.http.get(url)
        etag = whole.headers["etag"]
        assert whole.headers["accept-ranges"] == "bytes"
        for asked, start, end in (
            ("bytes=0-0", 0, 1), ("bytes=10-", 10, 1000), ("bytes=-10", 990, 1000),
            ("bytes=990-5000", 990, 1000), ("bytes=-5000", 0, 1000),
        ):  # fmt: skip
            part = await me.http.get(url, headers={"range": asked})
            assert (part.status_code, part.content) == (206, data[start:end]), asked
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
        for asked in ("bytes=1000-", "bytes=-0"):
            refused = await me.http.get(url, headers={"range": asked})
            problem(refused, 416, "RANGE_NOT_SATISFIABLE")
            assert refused.headers["content-range"] == "bytes */1000"
        for asked in ("bytes=5-1", "bytes=0-1,5-6", "items=0-1", "bytes=x-"):
            assert (await me.http.get(url, headers={"range": asked})).content == data
        for tag, size in ((etag, 10), ('"other"', 1000), (f"W/{etag}", 1000)):
            headers = {"range": "bytes=0-9", "if-range": tag}
            assert len((await me.http.get(url, headers=headers)).content) == size
        known = await me.http.get(url, headers={"if-none-match": f'"x", {etag}'})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        head = await me.http.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == "1000"


async def test_only_the_address_that_was_signed_is_served_and_not_for_ever(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        url = httpx.URL((await me.upload(b"mine"))["url"])
        other = httpx.URL((await me.upload(b"other"))["url"])
        async with Browser(running) as nobody:
            # Whoever has it may load it, under any name.
            assert (await nobody.http.get(url)).content == b"mine"
            renamed = url.copy_with(raw_path=url.raw_path.replace(b"notes.txt", b"x.html"))
            answer = await nobody.http.get(renamed)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            later = str(int(url.params["expires"]) + 1)
            for wrong in (
                url.copy_set_param("expires", later), url.copy_remove_param("signature"),
                url.copy_set_param("signature", other.params["signature"]),
                url.copy_set_param("expires", ""), url.copy_set_param("signature", "é"),
                url.copy_with(path=other.path), url.copy_with(path="/files/fil_none/x"),
            ):  # fmt: skip
                problem(await nobody.http.get(wrong), 403, "PERMISSION_DENIED")


async def test_an_address_is_good_for_its_time(tmp_path: Path) -> None:
    timing = {"file_url_ttl": 3.0}
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        url = (await me.upload(b"mine"))["url"]
        answer = await me.http.get(url)
        kept = re.search(r"max-age=(\d+)", answer.headers["cache-control"])
        assert kept is not None
        assert int(kept[1]) <= 4
        assert int(httpx.URL(url).params["expires"]) <= time.time() + 4

        async def gone() -> bool:
            return (await me.http.get(url)).status_code == 403

        await eventually(gone, message="the address is over")


@pytest.mark.parametrize(
    ("content_type", "served_as", "shown"),
    [
        ("image/png", "image/png", True),
        ("video/mp4", "video/mp4", True),
        ("text/plain; charset=latin-1", "text/plain; charset=utf-8", True),
        ("image/svg+xml", "image/svg+xml", False),
        ("text/html", "application/octet-stream", False),
        ("TEXT/HTML", "application/octet-stream", False),
        ("application/xhtml+xml", "application/octet-stream", False),
        ("text/javascript", "application/octet-stream", False),
        ("text/css", "application/octet-stream", False),
        ("application/pdf", "application/pdf", False),
        ("multipart/x-mixed-replace", "application/octet-stream", False),
        ("nonsense", "application/octet-stream", False),
    ],
)
async def test_no_file_is_served_so_that_a_browser_runs_it(
    tmp_path: Path, content_type: str, served_as: str, shown: bool
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        evil = b"<script>alert(1)</script>"
        file = await me.upload(evil, 'x"\r\ny: z.html', content_type)
        answer = await me.http.get(file["url"])
        assert answer.headers["content-type"] == served_as
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith("inline;" if shown else "attachment;")
        assert unquote(disposition.partition("filename*=UTF-8''")[2]) == file["name"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "default-src 'none'" in policy
        assert "allow" not in policy
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"].startswith("private, max-age=")
        assert "y" not in answer.headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\notes.txt", "notes.txt"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("..", "file"),
        ("é" * 300 + ".pdf", "é" * 125 + ".pdf"),
        ("日本 語.txt", "日本 語.txt"),
        (".bashrc", "bashrc"),
    ],
)
async def test_a_name_is_a_name_whatever_it_was(tmp_path: Path, given: str, kept: str) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        file = await me.upload(b"x", given)
        assert file["name"] == kept
        assert len(file["name"].encode()) <= 255
        assert (await me.http.get(file["url"])).content == b"x"
        assert stored(tmp_path) == [file["file_id"]]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ('say "hi" 100%22.txt', 'say "hi" 100%22.txt'),
        ("日本 語.txt", "日本 語.txt"),
        ("../../etc/passwd", "passwd"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("é" * 300 + ".pdf", "é" * 125 + ".pdf"),
        ("", "file"),
    ],
)
async def test_a_name_in_a_field_of_its_own_counts_before_the_parts_filename(
    tmp_path: Path, told: str, kept: str
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        answer = await me.http.post(
            f"{me.v1}/files", data={"name": told},
            files={"file": ("say %22hi%22.txt", b"abc", "text/plain")},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
        file = answer.json()["file"]
        assert (file["name"], file["size"]) == (kept, "3")
        assert (await me.http.get(file["url"])).content == b"abc"


async def test_a_name_comes_once_and_before_its_file(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        one = ("a.txt", b"abc", "text/plain")
        for parts, field in (
            ([("file", one), ("name", (None, "b.txt"))], "name"),
            ([("name", (None, "a")), ("name", (None, "b")), ("file", one)], "name"),
            ([("name", (None, "a"))], "file"),
            ([("name", (None, "n" * 70_000)), ("file", one)], "body"),
        ):
            refused = await me.http.post(f"{me.v1}/files", files=parts)  # type: ignore[arg-type]  # as httpx takes them
            shown = problem(refused, 400, "INVALID_ARGUMENT")
            assert shown["errors"][0]["field"] == field
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def test_a_form_has_one_file_and_nothing_else(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        address = f"{me.v1}/files"
        one = ("a.txt", b"abc", "text/plain")
        forms: list[tuple[dict[str, object], str]] = [
            ({"files": {"other": one}}, "other"),
            ({"files": [("file", one), ("file", one)]}, "file"),
            ({"files": [("file", one), ("more", one)]}, "more"),
            ({"files": {"file": (None, b"abc")}}, "file"),
            ({"files": {"file": one}, "data": {"text": "x"}}, "text"),
        ]
        for form, field in forms:
            refused = await me.http.post(address, **form)  # type: ignore[arg-type]  # as httpx takes them
            shown = problem(refused, 400, "INVALID_ARGUMENT")
            assert shown["errors"][0]["field"] == field
        for media, content, status, reason in (
            ("application/json", b"{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
            ("multipart/form-data", b"", 400, "INVALID_ARGUMENT"),
            ("multipart/form-data; boundary=" + "b" * 300, b"", 400, "INVALID_ARGUMENT"),
            ("multipart/form-data; boundary=b", b"", 400, "INVALID_ARGUMENT"),
            ("multipart/form-data; boundary=b", b"rubbish", 400, "INVALID_ARGUMENT"),
            ("multipart/form-data; boundary=b", PART.format(name="file", file="x").encode() + b"y",
             400, "INVALID_ARGUMENT"),
        ):  # fmt: skip
            headers = {"content-type": media}
            refused = await me.http.post(address, content=content, headers=headers)
            problem(refused, status, reason)
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def test_a_request_id_that_is_none_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.sign_in()
        shown = problem(await me.try_upload(b"x", "x", request_id="x"), 400, "INVALID_ARGUMENT")
        assert shown["errors"][0]["field"] == "request_id"


async def test_a_file_that_is_too_large_is_refused_so_that_who_sends_it_reads_it(
    tmp_path: Path,
) -> None:
    limits = {"max_file_bytes": 1_000_000}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        await me.sign_in()
        problem(await me.try_upload(bytes(1_000_001), "x"), 413, "LIMIT_EXCEEDED")
        problem(await me.try_upload(bytes(1_900_000), "x"), 413, "LIMIT_EXCEEDED")
        head = HEAD.format(token=me.token)
        async with Line(running) as line:  # who asks first is told before anything is sent
            await line.send(f"{head}expect: 100-continue\r\ncontent-length: 5000000\r\n\r\n")
            assert (await line.answer()).status == 413
        async with Line(running) as line:  # who does not say how much it is
            await line.send(f"{head}transfer-encoding: chunked\r\n\r\n")
            part = PART.format(name="file", file="x")
            await line.send(f"{len(part):x}\r\n{part}\r\n")
            for _ in range(11):
                await line.send(f"{100_000:x}\r\n{'x' * 100_000}\r\n")
            await line.send("0\r\n\r\n")
            assert (await line.answer()).status == 413
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")
        assert (await me.upload(bytes(1_000_000)))["size"] == "1000000"


async def test_an_upload_that_breaks_off_or_stops_leaves_nothing(tmp_path: Path) -> None:
    timing = {"body_timeout": 1.5}  # what is written is looked for within it
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        begun = (
            HEAD.format(token=me.token) + "content-length: 900000\r\n\r\n"
            + PART.format(name="file", file="x") + "x" * 600_000
        )  # fmt: skip
        async with Line(running) as line:
            await line.send(begun)
            await eventually(lambda: stored(tmp_path), message="something is written")
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")
        async with Line(running) as line:
            await line.send(begun)
            answer = await line.answer()
            assert (answer.status, answer.reason) == (408, "REQUEST_TIMEOUT")
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def test_uploads_have_a_rate(tmp_path: Path) -> None:
    limits = {"uploads_per_minute": 2}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        await me.sign_in()
        for _ in range(2):
            await me.upload(b"x")
        refused = await me.try_upload(b"x", "x")
        problem(refused, 429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) > 0


async def test_a_file_is_its_persons_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me, Browser(running) as eve:
        await me.sign_in()
        file = await me.upload(b"mine")
        await eve.sign_in()
        problem(await eve.get(f"/files/{file['file_id']}"), 404, "NOT_FOUND")
        session = await eve.open()
        refused = await eve.post(
            f"/sessions/{session}/messages", text="see", attachments=[file["file_id"]]
        )
        problem(refused, 404, "NOT_FOUND")
        assert "attachments" in refused.json()["detail"]


async def test_a_file_that_nothing_uses_is_deleted_by_its_person_and_counts_no_more(
    tmp_path: Path,
) -> None:
    limits = {"unused_file_bytes": 300 * 1024}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        await me.sign_in()
        mine = await me.upload(bytes(200 * 1024))
        refused = problem(await me.try_upload(bytes(200 * 1024), "x"), 413, "LIMIT_EXCEEDED")
        assert "0.2 MiB" in refused["detail"]
        assert "they go after a day" in refused["detail"]
        async with Browser(running) as eve:
            await eve.sign_in()
            problem(await eve.delete(f"/files/{mine['file_id']}"), 404, "NOT_FOUND")
        cross = {"sec-fetch-site": "cross-site"}
        answer = await me.http.delete(f"{me.v1}/files/{mine['file_id']}", headers=cross)
        problem(answer, 403, "CROSS_SITE")
        assert (await me.http.get(mine["url"])).status_code == 200
        answer = await me.delete(f"/files/{mine['file_id']}")
        assert (answer.status_code, answer.content) == (204, b"")
        problem(await me.delete(f"/files/{mine['file_id']}"), 404, "NOT_FOUND")
        problem(await me.http.get(mine["url"]), 404, "NOT_FOUND")
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")
        used = await me.upload(bytes(200 * 1024))
        session = await me.open()
        await me.say(session, "", attachments=[used["file_id"]])
        refused = problem(await me.delete(f"/files/{used['file_id']}"), 404, "NOT_FOUND")
        assert "in use" in refused["detail"]
        assert (await me.http.get(used["url"])).status_code == 200


async def test_what_stands_around_a_file_is_bounded_and_holds_no_upload_open(
    tmp_path: Path,
) -> None:
    """Before the form, in its headers, and behind its end."""
    timing = {"upload_timeout": 3.0}
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        assert running.sidecar is not None
        head = HEAD.format(token=me.token) + "transfer-encoding: chunked\r\n\r\n"
        part = PART.format(name="file", file="x")
        whole = f"{part}x\r\n--b--\r\n"
        for begun, piece in (
            (whole, "z" * 1000),
            ("", "z" * 1000),
            ("--b\r\n", "a: " + "b" * 1000 + "\r\n"),
        ):
            async with Line(running) as line:
                await line.send(head + (f"{len(begun):x}\r\n{begun}\r\n" if begun else ""))
                for _ in range(70):
                    await line.send(f"{len(piece):x}\r\n{piece}\r\n")
                await line.send("0\r\n\r\n")
                answer = await line.answer()
                assert (answer.status, answer.reason) == (400, "INVALID_ARGUMENT"), begun
            assert running.sidecar.files.uploading == 0
        # A little is taken: some clients write an end of their own.
        async with Line(running) as line:
            body = whole + "z" * 100
            await line.send(f"{head}{len(body):x}\r\n{body}\r\n0\r\n\r\n")
            assert (await line.answer()).status == 201


async def test_an_upload_has_one_deadline_from_its_first_byte_to_its_last(tmp_path: Path) -> None:
    timing = {"upload_timeout": 1.0}
    async with served(tmp_path, timing=timing) as (running, _), Browser(running) as me:
        await me.sign_in()
        head = HEAD.format(token=me.token) + "transfer-encoding: chunked\r\n\r\n"
        for begun in ("--b\r\na", PART.format(name="file", file="x")):
            async with Line(running) as line:
                await line.send(f"{head}{len(begun):x}\r\n{begun}\r\n")
                dripping = asyncio.create_task(_drip(line))
                answer = await line.answer(timeout=5)
                dripping.cancel()
                assert (answer.status, answer.reason) == (413, "LIMIT_EXCEEDED")
                assert b"upload_timeout" in answer.body
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def _drip(line: Line) -> None:
    while True:
        await line.send("1\r\nb\r\n")
        await asyncio.sleep(0.1)  # the sender that is meant

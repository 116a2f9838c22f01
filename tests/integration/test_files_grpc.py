"""FileService: files of people and of handlers, up and down."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import file_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.files import Mover, rows, stored
from tests.support.sidecar import Person, refused, request_id, running_sidecar
from tests.support.turns import turn, turn_on

FAST_GONE = grpc.StatusCode.NOT_FOUND


async def test_a_file_comes_down_as_it_went_up_whole_and_in_part(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        mine = Mover(ada)
        file = await mine.up(
            data, "../år.pdf", "Application/PDF; x=y",
            size=len(data), sha256=hashlib.sha256(data).digest(),
        )  # fmt: skip
        assert file.file_id.startswith("fil_")
        assert (file.name, file.content_type, file.size) == ("år.pdf", "application/pdf", len(data))
        assert file.sha256 == hashlib.sha256(data).digest()
        assert file.session_id == ""
        assert await mine.down(file.file_id) == data
        for offset, length in ((1, 5), (2_999_990, 0), (1_000_000, 1_500_000), (3_000_001, 0)):
            wanted = data[offset : offset + length if length else None]
            assert await mine.down(file.file_id, offset=offset, length=length) == wanted
        with refused(grpc.StatusCode.OUT_OF_RANGE, "PLACE_UNAVAILABLE"):
            await mine.down(file.file_id, offset=3_000_002)
        again = await mine.get(file.file_id)
        again.url = file.url
        assert again == file
        assert stored(tmp_path) == [file.file_id]


async def test_an_upload_that_is_sent_again_is_the_first_one(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        mine = Mover(ada)
        same = request_id()
        first = await mine.up(b"one", request_id=same)
        second = await mine.up(b"one", request_id=same)
        assert second.file_id == first.file_id
        await eventually(lambda: stored(tmp_path) == [first.file_id], message="one object")
        with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
            await mine.up(b"two", request_id=same)
        await eventually(lambda: rows(tmp_path) == [(first.file_id, 2)], message="one row")
        assert stored(tmp_path) == [first.file_id]


@pytest.mark.parametrize(
    ("header", "code", "reason"),
    [
        ({"size": 4}, grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"),
        ({"size": 2}, grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"),
        ({"sha256": b"\1" * 32}, grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"),
        ({"sha256": b"\1"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"size": -1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"size": 200 << 20}, grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
        ({"request_id": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"caller": pb.FileCaller()}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        (
            {"caller": pb.FileCaller(invocation_id="inv_x", attempt=1)},
            FAST_GONE, "NOT_FOUND",
        ),
        (
            {"caller": pb.FileCaller(invocation_id="inv_x", identity="terminal:ada")},
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT",
        ),
    ],
)  # fmt: skip
async def test_an_upload_that_is_refused_leaves_nothing(
    tmp_path: Path, header: dict[str, object], code: grpc.StatusCode, reason: str
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        with refused(code, reason):
            await Mover(ada).up(b"abc", **header)
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def test_the_header_comes_first_and_once_and_pieces_are_small(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        mine = Mover(ada)
        header, *data = mine.parts(b"abc")
        for parts in (
            [], data, [header, header, *data],
            [header, pb.UploadFileRequest(data=bytes((1 << 20) + 1))],
        ):  # fmt: skip
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
                await mine.send(parts)
        await eventually(lambda: not rows(tmp_path) and not stored(tmp_path), message="nothing")


async def test_a_file_is_at_most_as_large_as_the_limit(tmp_path: Path) -> None:
    limits = {"max_file_bytes": 1000, "unused_file_bytes": 2500}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        mine = Mover(ada)
        kept = [(await mine.up(bytes(1000))).file_id for _ in range(2)]
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED") as refusal:
            await mine.up(bytes(1001))
        assert refusal.metadata["limit"] == "max_file_bytes"
        # What is not used yet counts, told or not.
        for header in ({}, {"size": 600}):
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED") as refusal:
                await mine.up(bytes(600), **header)
            assert refusal.metadata["limit"] == "unused_file_bytes"
        await eventually(lambda: len(rows(tmp_path)) == 2, message="two rows")
        # A message takes them: then there is room again.
        session = await ada.open()
        await ada.say(session, "see", attachments=kept)
        await mine.up(bytes(600))


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        mine = Mover(ada)
        call = mine.stub.UploadFile(metadata=mine.metadata)
        for part in mine.parts(bytes(2_000_000)):
            await call.write(part)
        await eventually(lambda: stored(tmp_path), message="something is written")
        assert [state for _, state in rows(tmp_path)] == [1]
        call.cancel()
        await eventually(lambda: not stored(tmp_path) and not rows(tmp_path), message="nothing")


async def test_an_upload_that_stops_coming_is_ended(tmp_path: Path) -> None:
    timing = {"body_timeout": 1.5}  # longer than it may take to send what is sent
    async with running_sidecar(tmp_path, timing=timing) as running, Person(running) as ada:
        mine = Mover(ada)
        call = mine.stub.UploadFile(metadata=mine.metadata)
        for part in mine.parts(bytes(300_000)):
            await call.write(part)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"):
            await call
        await eventually(lambda: not stored(tmp_path) and not rows(tmp_path), message="nothing")


async def test_so_many_uploads_are_read_at_once_and_no_more(tmp_path: Path) -> None:
    limits = {"uploads_per_user": 1}
    async with running_sidecar(tmp_path, limits=limits) as running:
        async with Person(running) as ada, Person(running, "terminal:bob") as bob:
            mine = Mover(ada)
            header, *data = mine.parts(b"x" * 10)
            call = mine.stub.UploadFile(metadata=mine.metadata)
            await call.write(header)
            await eventually(lambda: len(rows(tmp_path)) == 1, message="the first has begun")
            with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
                await mine.up(b"y")
            await Mover(bob).up(b"z")
            for part in data:
                await call.write(part)
            await call.done_writing()
            assert (await call).file.size == 10


async def test_a_handler_reaches_the_files_of_its_person_and_its_own_are_its_sessions(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk, Person(desk.running, "terminal:bob") as bob:
        theirs = await Mover(bob).up(b"bob's")
        unused = await Mover(desk.person).up(b"ada's")
        handler = Mover(desk)
        assert await handler.down(unused.file_id) == b"ada's"
        made = await handler.up(b"made")
        assert made.session_id == desk.session
        assert await Mover(desk.person).down(made.file_id) == b"made"
        for mover, file_id in (
            (handler, theirs.file_id), (Mover(bob), made.file_id), (handler, "fil_none"),
            (Mover(bob), unused.file_id),
        ):  # fmt: skip
            with refused(FAST_GONE, "NOT_FOUND"):
                await mover.get(file_id)
            with refused(FAST_GONE, "NOT_FOUND"):
                await mover.down(file_id)
        await desk.finish()
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVOCATION_ENDED"):
            await handler.up(b"too late")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVOCATION_ENDED"):
            await handler.get(made.file_id)


async def test_a_slow_reader_of_a_file_gets_all_of_it(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        mine = Mover(ada)
        file = await mine.up(data)
        request = pb.DownloadFileRequest(caller=mine.caller, file_id=file.file_id)
        call = mine.stub.DownloadFile(request, metadata=mine.metadata)
        got = bytearray()
        async for piece in call:
            got += piece.data
            await asyncio.sleep(0.01)  # the reader that is meant: it does not wait for anything
        assert got == data


async def test_an_image_is_shown_once_also_by_a_later_attempt(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        mine = Mover(desk)
        png = await mine.up(b"\x89PNG", "a.png", "image/png")
        first = await desk.unary("show_image", file_id=png.file_id, alt="a", width=7)
        text = await mine.up(b"text")
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
            await desk.unary("show_image", file_id=text.file_id)
        theirs = await Mover(desk.person).up(b"\x89PNG", "b.png", "image/png")
        with refused(FAST_GONE, "NOT_FOUND"):
            await desk.unary("show_image", file_id="fil_none")
        await desk.handler.finish(desk.work, status=4)  # released: it is delivered again
        again = await desk.handler.work(2)
        assert again.attempt == 2
        desk.work = again
        copy = await Mover(desk).up(b"\x89PNG", "a.png", "image/png")
        second = await desk.unary("show_image", file_id=copy.file_id, alt="a", width=7)
        assert (second.block_id, second.offset) == (first.block_id, first.offset)
        await eventually(lambda: copy.file_id not in stored(tmp_path), message="the copy is gone")
        other = await desk.unary("show_image", file_id=theirs.file_id, alt="b")
        assert other.block_id != first.block_id
        items = await desk.person.timeline(desk.session)
        blocks = [item.block for item in items if item.WhichOneof("item") == "block"]
        assert [block.type for block in blocks] == ["image", "image"]
        assert b'"url": "http' in blocks[0].payload_json
        assert png.file_id.encode() in blocks[0].payload_json


async def test_a_retry_is_answered_whatever_quota_and_fence_say_by_then(tmp_path: Path) -> None:
    limits = {"unused_file_bytes": 100}
    async with turn(tmp_path, limits=limits) as desk:
        data = bytes(60)
        told: dict[str, Any] = {"size": 60, "sha256": hashlib.sha256(data).digest()}
        for mover in (Mover(desk.person), Mover(desk)):
            same = request_id()
            first = await mover.up(data, request_id=same, **told)
            if mover.caller.invocation_id:
                await desk.finish()
            # Told what it is: nothing of it is asked for.
            header, *_ = mover.parts(data, request_id=same, **told)
            call = mover.stub.UploadFile(metadata=mover.metadata, timeout=5)
            await call.write(header)
            assert (await call).file.file_id == first.file_id
            headers: list[dict[str, Any]] = [{}, {"size": 60}]
            for header_ in headers:
                again = await mover.up(data, request_id=same, **header_)
                assert again.file_id == first.file_id
            with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
                await mover.up(bytes(59), request_id=same)
            with refused(grpc.StatusCode.DATA_LOSS, "DIGEST_MISMATCH"):
                await mover.up(bytes(61), request_id=same, size=60)
        assert len(stored(tmp_path)) == len(rows(tmp_path)) == 2


async def test_people_cannot_take_the_places_of_handlers(tmp_path: Path) -> None:
    limits = {"uploads": 2, "handler_uploads": 2, "uploads_per_invocation": 1}
    async with turn(tmp_path, limits=limits) as desk:
        slow = Mover(desk.person)
        calls = []
        for _ in range(2):
            call = slow.stub.UploadFile(metadata=slow.metadata)
            await call.write(slow.parts(b"x")[0])
            calls.append(call)
        await eventually(lambda: len(rows(tmp_path)) == 2, message="they have begun")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
            await slow.up(b"y")
        handler = Mover(desk)
        await handler.up(b"made")
        call = handler.stub.UploadFile(metadata=handler.metadata)
        await call.write(handler.parts(b"x")[0])
        await eventually(lambda: len(rows(tmp_path)) == 4, message="it has begun")
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED") as refusal:
            await handler.up(b"z")
        assert "of one invocation" in refusal.message
        for each in (*calls, call):
            each.cancel()


async def test_a_name_tells_the_type_of_what_came_without_one(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        for told in ("", "application/octet-stream"):
            file = await Mover(ada).up(b"# x", "a.md", told)
            assert file.content_type == "text/markdown"


APPS = {
    "support": {
        "token": "support-handler-token",
        "channels": {
            "terminal": {"token": "support-terminal-token"},
            "telegram": {"token": "support-telegram-token"},
        },
    },
    "other": {
        "token": "other-handler-token",
        "channels": {"terminal": {"token": "other-terminal-token"}},
    },
}
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
GONE = (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_no_wrong_identity_moves_a_file(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, apps=APPS) as running, turn_on(running) as desk:
        file = await Mover(desk.person).up(b"mine")
        as_handler = Mover(desk).caller
        as_person = Mover(desk.person).caller
        as_eve = pb.FileCaller(identity="terminal:eve")
        for token, caller, expected in (
            ("", as_person, UNKNOWN),
            ("nonsense", as_person, UNKNOWN),
            ("support-handler-token", as_person, DENIED),
            ("support-telegram-token", as_person, DENIED),
            ("support-terminal-token", as_handler, DENIED),
            ("support-terminal-token", as_eve, GONE),
            ("other-handler-token", as_handler, GONE),
            ("other-terminal-token", as_person, GONE),
            ("support-handler-token", as_handler, None),
            ("support-terminal-token", as_person, None),
        ):
            mover = Mover(desk.person)
            mover.caller = caller
            app = "other" if token.startswith("other") else "support"
            bearer = (("authorization", f"Bearer {token}"),) if token else ()
            mover.metadata = (*bearer, ("capsule-app", app))
            if expected is None:
                assert await mover.down(file.file_id) == b"mine"
                await mover.get(file.file_id)
                await mover.up(b"more")
                continue
            with refused(*expected):
                await mover.down(file.file_id)
            with refused(*expected):
                await mover.get(file.file_id)
            if caller is as_eve or token == "other-terminal-token":
                continue  # theirs to upload: it is a file of their own
            with refused(*expected):
                await mover.up(b"more")

"""Limits at their edges: what just fits is taken, one more is refused with the limit's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import types_pb2
from tests.support.sidecar import Person, Refusal, refused, running_sidecar
from tests.support.turns import turn

KIB = 1024
EXHAUSTED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_a_text_has_at_most_256_kib_counted_in_bytes(tmp_path: Path) -> None:
    fits = "é" * (128 * KIB)
    async with turn(tmp_path) as desk:
        sent = await desk.person.say(desk.session, fits)
        assert sent.message.text == fits
        assert (await desk.command("reply", text=fits)).offset
        for over in (fits + "x", "x" * (256 * KIB + 1), fits[:-1] + "\U0001f600"):
            with refused(*EXHAUSTED) as found:
                await desk.person.say(desk.session, over)
            assert found.metadata == {"limit": "text", "maximum": str(256 * KIB)}
            assert (await desk.command("reply", text=over)).metadata == found.metadata
        texts = await desk.person.texts(desk.session)
        assert texts == ["hello", fits, fits]


@pytest.mark.parametrize("text", ["", " ", "\n\t\u00a0\u2003"])
async def test_a_user_message_without_text_is_refused(tmp_path: Path, text: str) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        with refused(*INVALID) as found:
            await ada.say(session, text)
        assert found.fields == ["text"]
        assert not await ada.texts(session)


async def test_a_block_has_at_most_64_kib_of_payload(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:

        def block(size: int) -> types_pb2.Block:
            payload = '{"é":"' + "x" * (size - len('{"é":""}'.encode())) + '"}'
            assert len(payload.encode()) == size
            return types_pb2.Block(type="card", payload_json=payload.encode())

        assert (await desk.command("show_block", block=block(64 * KIB))).offset
        found = await desk.command("show_block", block=block(64 * KIB + 1))
        assert (found.code, found.reason) == EXHAUSTED
        assert found.metadata == {"limit": "block_payload", "maximum": str(64 * KIB)}


async def test_a_session_has_at_most_1_mib_of_data(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:

        async def put(key: str, size: int) -> Any:
            value = b'"' + b"x" * (size - len(key.encode()) - 2) + b'"'
            patch = types_pb2.DataPatch(set_json={key: value})
            return await desk.command("update_data", patch=patch)

        half = 512 * KIB
        assert not isinstance(await put("é", half), Refusal)
        assert not isinstance(await put("b", half), Refusal)
        found = await put("c", 4)
        assert (found.code, found.reason) == EXHAUSTED
        assert found.metadata == {"limit": "session_data", "maximum": str(1024 * KIB)}
        over = await put("b", half + 1)
        assert over.reason == "LIMIT_EXCEEDED"
        assert not isinstance(await put("b", half - 4), Refusal), "replacing counts once"
        assert not isinstance(await put("c", 4), Refusal)
        data = (await desk.command("get_session")).data_json
        assert len(data) > 1024 * KIB - 16


async def test_a_title_has_at_most_200_characters_and_one_line(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        fits = "\U0001f600" * 200
        assert (await desk.command("set_title", title=fits)).offset
        call = desk.person.call
        updated = await call("UpdateSession", session_id=desk.session, title=fits)
        assert updated.session.title == fits
        for wrong in (fits + "x", "a\nb", "a\rb", "tab\there", "a\u2028b", "a\u0085b", "end\n"):
            for attempt in (
                call("UpdateSession", session_id=desk.session, title=wrong),
                call("OpenSession", title=wrong),
            ):
                with refused(*INVALID) as found:
                    await attempt
                assert found.fields == ["title"]
            assert (await desk.command("set_title", title=wrong)).fields == ["title"]
        removed = await call("UpdateSession", session_id=desk.session, title="")
        assert not removed.session.title


async def test_a_key_has_at_most_256_characters(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for fits, over in (("é" * 256, "é" * 257),):
            assert (await desk.command("reply", text="a", key=fits)).offset
            assert (await desk.command("open_stream", key=fits)).stream_id
            for name in ("reply", "open_stream"):
                fields = {"text": "b"} if name == "reply" else {}
                found = await desk.command(name, key=over, **fields)
                assert (found.code, found.reason) == EXHAUSTED
                assert found.metadata == {"limit": "key", "maximum": "256"}


async def test_a_status_line_has_at_most_1000_characters_and_4000_of_detail(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        line, detail = "é" * 1000, "é" * 4000
        assert not isinstance(await desk.command("notify", text=line, detail=detail), Refusal)
        found = await desk.command("notify", text=line + "x")
        assert found.metadata == {"limit": "status_line", "maximum": "1000"}
        found = await desk.command("notify", text="x", detail=detail + "x")
        assert found.metadata == {"limit": "status_detail", "maximum": "4000"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"block_id": "b" * 129}, "block_id"),
        ({"payload_json": b"{"}, "payload_json"),
        ({"payload_json": b"NaN"}, "payload_json"),
        ({"payload_json": b'"' + b"x" * (64 * KIB) + b'"'}, ""),
    ],
)
async def test_an_action_is_checked_by_its_fields(
    tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        session = await ada.open()
        given = {"name": "pick", "session_id": session} | fields
        with refused(*(INVALID if field else EXHAUSTED)) as found:
            await ada.call("SendAction", **given)
        assert found.fields == ([field] if field else [])
        fits = {
            "name": "n" * 128,
            "block_id": "b" * 128,
            "payload_json": b'"' + b"x" * 65_534 + b'"',
        }
        assert (await ada.call("SendAction", session_id=session, **fits)).offset


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "ada",
        "terminal:",
        ":ada",
        "Terminal:ada",
        "terminal:a b",
        "terminal:a\n",
        "x" * 33 + ":a",
        "terminal:" + "a" * 192,
    ],
)
async def test_an_identity_is_a_channel_and_a_name(tmp_path: Path, identity: str) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        for method in ("OpenSession", "ListSessions"):
            with refused(*INVALID) as found:
                await ada.call(method, identity=identity)
            assert found.fields == ["identity"]
        assert (await ada.call("OpenSession", identity="terminal:" + "é" * 191)).session.session_id

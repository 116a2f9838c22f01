"""Files that blocks show: only what the session may use, however the payload's JSON is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.runtime.addresses import Addresses
from tests.support.files import Mover
from tests.support.sidecar import Person, Refusal, running_sidecar
from tests.support.turns import turn, turn_on

PNG = b"\x89PNG"


def written(file_id: str) -> list[bytes]:
    """Returns payloads that name a file."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in file_id)
    return [
        payload.replace("FILE", file_id).encode()
        for payload in (
            '{"file_id": "FILE"}',
            r'{"file\u005fid": "FILE"}',
            f'{{"\\u0066ile_id": "{escaped}"}}',
            r'{"file_id": "fil_nowhere", "file\u005fid": "FILE"}',
            r'{"file\u005fid": "fil_nowhere", "file_id": "FILE"}',
        )
    ]


async def test_no_way_to_write_a_key_shows_the_file_of_somebody_else(tmp_path: Path) -> None:
    async with (
        running_sidecar(tmp_path) as running,
        turn_on(running) as desk,
        Person(running, identity="web:mallory") as other,
    ):
        secret = await Mover(other).up(PNG, "s.png", "image/png")
        for payload in written(secret.file_id):
            block = types_pb2.Block(type="image", payload_json=payload)
            found = await desk.command("show_block", block=block)
            assert isinstance(found, Refusal), payload
            assert found.reason == "NOT_FOUND"
        items = await desk.person.timeline(desk.session)
        assert not any(item.WhichOneof("item") == "block" for item in items)


async def test_a_file_that_a_block_shows_is_the_sessions_however_it_is_named(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        mine = Mover(desk.person)
        for number in range(5):
            file = await mine.up(PNG, "p.png", "image/png")
            payload = written(file.file_id)[number]
            shown = types_pb2.Block(type="image", payload_json=payload)
            assert not isinstance(await desk.command("show_block", block=shown), Refusal)
            assert (await mine.get(file.file_id)).session_id == desk.session
            block = (await desk.person.timeline(desk.session))[-1].block
            assert block.payload_json.startswith(payload[:-1]), "the bytes are as they were given"
            read = json.loads(block.payload_json)
            assert f"/files/{file.file_id}/" in read.pop("url")
            assert read == json.loads(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"file_id": "fil_1", "n": ' + b"9" * 5000 + b"}",
        b'{"a": ' * 3000 + b'"fil_1"' + b"}" * 3000,
        b'["fil_1"]',
        b'{"file_id": ["fil_1"]}',
        b"fil_1",
        b'{"file_id": "fil_1", "mood": null}',
    ],
    ids=lambda payload: payload[:24].decode(),
)
def test_an_image_of_a_sidecar_that_did_not_check_is_read_as_it_is(payload: bytes) -> None:
    event = events_pb2.Event(
        block_shown=events_pb2.BlockShown(block=types_pb2.Block(type="image", payload_json=payload))
    ).SerializeToString()
    addresses = Addresses(b"key", 60.0, "http://here")
    assert events_pb2.Event.FromString(addresses.event(event)).block_shown.block.payload_json == (
        payload
    )

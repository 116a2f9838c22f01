"""Arbitrary JSON: exactly what RFC 8259 has, and kept as it came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capsule_protocol.v1 import types_pb2
from tests.support.sidecar import Refusal
from tests.support.turns import turn

NO_JSON = {
    "NaN": b"NaN",
    "infinity": b"Infinity",
    "minus infinity": b"-Infinity",
    "NaN inside": b'{"a": [1, NaN]}',
    "nothing": b"",
    "white space": b"  ",
    "not UTF-8": b'"\xff\xfe"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf1",
    "single quotes": b"{'a': 1}",
    "a comment": b"1 // one",
    "two values": b"1 2",
    "a trailing comma": b"[1,]",
    "a leading zero": b"01",
    "a raw line break in a string": b'"a\nb"',
    "a half": b'{"a":',
    "huge nesting": b"[" * 200_000 + b"]" * 200_000,
    "a number of 401 characters": b"9" * 401,
    "a fraction of 401 characters": b"[0." + b"3" * 399 + b"]",
}
JSON = {
    "a large integer": b"123456789012345678901234567890",
    "an integer of 400 digits": b"9" * 400,
    "a float beyond a double": b"1e999",
    "an exact decimal": b"0.1000000000000000000000000001",
    "escapes": b'"\\ud83d\\ude00\\u0000"',
    "a nested object": b'{"a":{"b":[null,true,false,{}]}}',
    "white space around": b' {"a" : 1} ',
}


@pytest.mark.parametrize("name", NO_JSON)
async def test_what_is_no_json_is_refused_by_its_field(tmp_path: Path, name: str) -> None:
    async with turn(tmp_path) as desk:
        patch = types_pb2.DataPatch(set_json={"a": b"1", "b": NO_JSON[name]})
        for form in ("unary", "command"):
            found = await desk.answer(form, "update_data", patch=patch)
            assert isinstance(found, Refusal)
            assert (found.reason, found.fields) == ("INVALID_ARGUMENT", ["patch.set_json['b']"])
        assert (await desk.command("get_session")).data_json == b"{}", "nothing is applied"
        if NO_JSON[name].strip():  # an empty payload means {}
            block = types_pb2.Block(type="card", payload_json=NO_JSON[name][:60_000])
            found = await desk.command("show_block", block=block)
            assert (found.reason, found.fields) == ("INVALID_ARGUMENT", ["block.payload_json"])


@pytest.mark.parametrize("name", JSON)
async def test_what_is_json_is_kept_to_the_digit(tmp_path: Path, name: str) -> None:
    async with turn(tmp_path) as desk:
        patch = types_pb2.DataPatch(set_json={"é": JSON[name]})
        found = await desk.command("update_data", patch=patch)
        assert not isinstance(found, Refusal), found
        data = (await desk.command("get_session")).data_json
        assert JSON[name].strip() in data
        assert list(json.loads(data, parse_int=str)) == ["é"]
        await desk.finish()
        following = await desk.next_turn("next")
        assert following.work.data_json == data


@pytest.mark.parametrize("payload", [b"[1]", b"1", b'"text"', b"null"])
async def test_a_block_takes_an_object_only(tmp_path: Path, payload: bytes) -> None:
    async with turn(tmp_path) as desk:
        block = types_pb2.Block(type="card", payload_json=payload)
        found = await desk.command("show_block", block=block)
        assert (found.reason, found.fields) == ("INVALID_ARGUMENT", ["block.payload_json"])


async def test_a_key_is_not_both_set_and_deleted(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        patch = types_pb2.DataPatch(set_json={"a": b"1"}, delete_keys=["a"])
        found = await desk.command("update_data", patch=patch)
        assert found.fields == ["patch"]
        for key in ("", "k" * 257):
            for wrong in (
                types_pb2.DataPatch(set_json={key: b"1"}),
                types_pb2.DataPatch(delete_keys=[key]),
            ):
                assert (await desk.command("update_data", patch=wrong)).fields == ["patch"]


async def test_deleting_a_key_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        first = types_pb2.DataPatch(set_json={"a": b"1", "b": b"2"})
        second = types_pb2.DataPatch(delete_keys=["a", "none"])
        for patch in (first, second):
            assert not isinstance(await desk.command("update_data", patch=patch), Refusal)
        assert json.loads((await desk.command("get_session")).data_json) == {"b": 2}

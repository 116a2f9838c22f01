"""The JSON form: what the protocol's messages look like over HTTP, and what is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_protocol.v1 import channel_service_pb2, types_pb2
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.web.json_form import encode, encode_bytes, from_json, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_inline_json_comes_out_as_it_went_in(value: Any) -> None:
    body = json.loads(json.dumps({"name": "n", "payload": value}))
    request = from_json(channel_service_pb2.SendActionRequest, body)
    assert json.loads(request.payload_json) == value
    assert json.loads(encode(to_json(request)))["payload"] == value


@given(st.text(st.characters(categories=["Cs", "Lu", "Cc"])))
def test_any_text_can_be_written_in_utf_8(text: str) -> None:
    data = encode_bytes({"text": text})
    assert b"\n" not in data
    # Two halves that stand side by side are one character in any JSON.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(data.decode()) == {"text": whole}


def test_inline_json_is_written_byte_by_byte_but_for_line_breaks() -> None:
    raw = b'{"a": 1e999,\r\n "b": 12345678901234567890123, "c": "\\ud800", "a": 0.10}'
    block = types_pb2.Block(block_id="x", payload_json=raw)
    assert encode({"first": to_json(block), "second": [to_json(block)]}) == (
        '{"first":{"block_id":"x","payload":%s},"second":[{"block_id":"x","payload":%s}]}'
        % ((raw.decode().replace("\r\n", "  "),) * 2)
    )


def test_empty_inline_json_is_null() -> None:
    block = types_pb2.Block(block_id="x", payload_json=b" ")
    assert encode(to_json(block)) == '{"block_id":"x","payload":null}'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nope": 1}, "nope"),
        ({"name": None}, "name"),
        ({"name": 1}, "name"),
        ({"name": ["a"]}, "name"),
        ({"name": {}}, "name"),
        ({"name": True}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"payload": float("nan")}, "payload"),
        ({"payload": ["\ud800"]}, "payload"),
        ({"payload_json": "e30="}, "payload_json"),
        ({"blockId": "b"}, "blockId"),
        ({"identity": "chat:eve"}, "identity"),
        ({}, "name"),
    ],
)
def test_what_is_not_taken_is_named(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_json(channel_service_pb2.SendActionRequest, body, omit={"identity"}, required=["name"])
    assert caught.value.field == field


def test_numbers_of_64_bits_are_strings_and_defaults_are_left_out() -> None:
    answer = channel_service_pb2.SendActionResponse(offset=2**62, invocation_id="i")
    assert to_json(answer) == {"offset": str(2**62), "invocation_id": "i"}
    assert to_json(channel_service_pb2.SendActionResponse()) == {}

from __future__ import annotations

import json

import pytest

from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands import chat_blocks
from capsule_sidecar.commands.chat_cards import Card, attachment_row, card, step_row
from capsule_sidecar.commands.chat_words import one_line, size_words


def block(kind: str, payload: object) -> types_pb.Block:
    return types_pb.Block(block_id="b", type=kind, payload_json=json.dumps(payload).encode())


def shown(kind: str, payload: object) -> Card:
    return card(block(kind, payload), update=False)


def test_an_unknown_block_is_its_title_its_text_and_its_fields() -> None:
    words = shown(
        "order.status",
        {
            "title": "Order 4711",
            "text": "It left.",
            "carrier": "Northern",
            "paid": True,
            "note": None,
            "orderItems": ["Lamp", "Cable"],
            "delivery": {"street": "Harbour Road 5", "window": {"from": 9}},
            "lines": [{"n": 1}, "two\nrows"],
        },
    )
    assert words.title == "[order.status] Order 4711"
    assert words.body == (
        "It left.\nCarrier: Northern\nPaid: yes\nNote: -\nOrder items: Lamp, Cable\n"
        "Delivery:\n  Street: Harbour Road 5\n  Window:\n    From: 9\n"
        "Lines:\n  1:\n    N: 1\n  2:\n    two\n    rows"
    )


def test_a_button_is_the_command_that_clicks_it() -> None:
    payload = {
        "buttons": [
            {"label": "More", "action": "more", "payload": {"by": 1}},
            {"label": "Lots", "action": "more", "payload": {"by": 5}},
            {"action": "two words"},
            {"label": "no action"},
            "nonsense",
        ]
    }
    assert shown("card", payload).whole == (
        "/action more   More",
        '/action more {"by": 5}   Lots',
        '/action "two words"   two words',
    )
    assert chat_blocks.payload_of_action(block("card", payload), "more") == b'{"by": 1}'
    assert chat_blocks.payload_of_action(block("card", payload), "two words") == b"{}"
    assert chat_blocks.payload_of_action(block("card", {"on": "x"}), "x") == b""
    assert chat_blocks.payload_of_action(block("card", payload), "less") is None


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("step", {"label": 5, "status": {"evil": True}}),
        ("step", {"label": "a", "status": "later"}),
        ("suggestions", {"items": "no"}),
        ("image", {"alt": "nothing to show"}),
        ("card", {"buttons": "none", "title": 5, "text": []}),
    ],
)
def test_what_is_not_what_its_type_promises_is_shown_like_any_other(
    kind: str, payload: object
) -> None:
    assert chat_blocks.step(block(kind, payload)) is None
    words = shown(kind, payload)
    assert words.title.startswith(f"[{kind}]")
    assert words.body


def test_a_payload_that_cannot_be_read_says_so() -> None:
    for raw in (b"{", b"[]", b"[" * 30_000):
        unread = types_pb.Block(block_id="b", type="card", payload_json=raw)
        assert "cannot be read" in card(unread, update=False).body


def test_what_is_too_deep_or_too_long_is_cut_and_says_so() -> None:
    deep: object = "end"
    for _ in range(8):
        deep = {"a": deep}
    assert '{"a": ' in shown("card", deep).body
    assert "(and 60 more)" in shown("card", {f"k{n}": n for n in range(100)}).body


def test_an_image_in_the_block_itself_is_not_poured_out() -> None:
    words = shown("image", {"src": "data:image/png;base64,AAAA", "alt": "A dot"})
    assert words == Card("[image] A dot", "(it lies in the block; the chat page shows it)")
    words = shown(
        "image", {"file_id": "fil_1", "url": "http://h/files/fil_1/a.png", "name": "a.png"}
    )
    assert words == Card("[image] a.png", "", ("http://h/files/fil_1/a.png",))


def test_a_step_is_one_row_with_a_mark() -> None:
    step = chat_blocks.step(
        block("step", {"label": "Look\nup", "status": "failed", "detail": "no"})
    )
    assert step is not None
    assert step.over
    assert step_row(step) == "[!] Look up - no"


def test_a_file_is_one_row_and_cannot_steer_the_terminal() -> None:
    file = types_pb.Attachment(
        name="a\x1b[2J\n.txt", content_type="text/\x9bplain", size=1536, url="http://h/a?b=1"
    )
    sign = "\N{REPLACEMENT CHARACTER}"
    assert attachment_row(file) == f"a{sign}[2J .txt (text/{sign}plain, 1.5 KiB)  http://h/a?b=1"


def test_no_block_can_steer_the_terminal() -> None:
    evil = "\x1b[2J\x9b\r\x07"
    payloads: list[tuple[str, object]] = [
        ("card", {"title": evil, "text": evil, evil: [evil, {evil: evil}], "deep": [[[[[evil]]]]]}),
        ("card", {"buttons": [{"label": evil, "action": evil, "payload": {evil: evil}}] * 2}),
        ("suggestions", {"items": [evil]}),
        ("image", {"url": f"http://h/{evil}", "alt": evil, "name": evil}),
        (evil, {}),
    ]
    for kind, payload in payloads:
        words = shown(kind, payload)
        text = "".join([words.title, words.body, *words.whole])
        assert all(char >= " " or char == "\n" for char in text), text
        assert not any("\x7f" <= char <= "\x9f" for char in text), text
        assert "\n" not in "".join([words.title, *words.whole])


def test_sizes_and_rows_are_short() -> None:
    assert [size_words(n) for n in (0, 1, 1023, 1024, 1536, 1024**2, 100 * 1024**2, 1024**4)] == [
        "0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "100.0 MiB",
        "1024.0 GiB",
    ]  # fmt: skip
    assert one_line(" a\n b\t", 10) == "a b"
    assert one_line("abcdef", 4) == "abc…"

"""How batches of frames are written as Server-Sent Events."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from capsule_protocol.v1 import channel_service_pb2, events_pb2, types_pb2
from capsule_sidecar.web.event_stream import by_offset, by_position
from tests.support.http import read_texts

Frame = events_pb2.FollowFrame
STREAMS = ("s1", "s2")
# What would end a line or an event, and what needs more than one UTF-16 unit.
TEXT = st.text(st.sampled_from('ab\n\r\u2028\x00"\\:é😀\ufeff'), min_size=1, max_size=4)


def batch(*frames: Frame) -> bytes:
    return channel_service_pb2.FollowChannelResponse(frames=frames).SerializeToString()


def messages(data: bytes) -> list[dict[str, str]]:
    """Returns the messages' fields, as a browser's parser divides them."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            assert "\r" not in line
            name, _, value = line.partition(":")
            assert name not in fields
            fields[name] = value.removeprefix(" ")
        found.append(fields)
    return found


def delta(stream: str, position: int, text: str, revision: int = 0) -> Frame:
    return Frame(
        transient=events_pb2.Transient(
            session_id="ses", after_offset=2,
            text_delta=events_pb2.TextDelta(
                stream_id=stream, revision=revision, position=position, text=text
            ),
        )
    )  # fmt: skip


@st.composite
def writings(draw: st.DrawFn) -> tuple[list[Frame], dict[str, str]]:
    """Draws what a sidecar may write of two streams, and the texts that it stands for."""
    texts = dict.fromkeys(STREAMS, "")
    revisions = dict.fromkeys(STREAMS, 0)
    frames = [
        Frame(event=events_pb2.Event(offset=n, stream_opened=events_pb2.StreamOpened(stream_id=s)))
        for n, s in enumerate(STREAMS, 1)
    ]
    for step in range(draw(st.integers(0, 25))):
        stream = draw(st.sampled_from(STREAMS))
        kind = draw(st.sampled_from(("append",) * 6 + ("overlap", "replace", "event", "beat")))
        if kind == "event":
            frames.append(Frame(event=events_pb2.Event(offset=3 + step)))
            continue
        if kind == "beat":
            frames.append(Frame(beat=events_pb2.FollowBeat(offset=1)))
            continue
        text, length = draw(TEXT), len(texts[stream])
        position = length
        if kind == "overlap":
            position = draw(st.integers(0, length))
            text = texts[stream][position:] + text
        elif kind == "replace":
            position = draw(st.integers(0, length))
            revisions[stream] += 1
        texts[stream] = texts[stream][:position] + text
        frames.append(delta(stream, position, text, revisions[stream]))
    return frames, texts


@settings(max_examples=150, deadline=None)
@given(writings(), st.lists(st.integers(1, 6), max_size=12), st.booleans())
def test_merged_deltas_keep_the_exact_text_however_they_are_batched(
    writing: tuple[list[Frame], dict[str, str]], sizes: list[int], position: bool
) -> None:
    frames, texts = writing
    encode = by_position if position else by_offset
    shown: list[dict[str, Any]] = []
    rest = frames
    for size in [*sizes, len(frames)]:
        now, rest = rest[:size], rest[size:]
        if now:
            shown += [json.loads(m["data"]) for m in messages(encode(batch(*now))) if "data" in m]
    assert read_texts(shown) == texts


def test_deltas_of_a_batch_that_follow_on_each_other_are_one_message() -> None:
    data = by_offset(batch(*[delta("s1", n, "é"[: n + 1]) for n in range(50)]))
    (message,) = messages(data)
    shown = json.loads(message["data"])["transient"]
    assert shown == {
        "session_id": "ses",
        "after_offset": "2",
        "text_delta": {"stream_id": "s1", "text": "é" * 50},
    }


def test_only_lasting_events_have_an_id_of_the_kind_that_is_followed_by() -> None:
    event = Frame(event=events_pb2.Event(session_id="ses", offset=7, position=70))
    gone = Frame(event=events_pb2.Event(position=71, session_deleted=events_pb2.SessionDeleted()))
    line = events_pb2.StatusLine(invocation_id="i", text="t")
    passing = Frame(transient=events_pb2.Transient(session_id="ses", status_line=line))
    snapshot = Frame(snapshot=events_pb2.Snapshot(offset=7, first=True, last=True))
    beat = Frame(beat=events_pb2.FollowBeat(offset=7))
    data = batch(event, delta("s1", 0, "a"), gone, passing, snapshot, beat, Frame())
    for encode, ids in ((by_offset, ["7", None]), (by_position, ["70", "71"])):
        found = messages(encode(data))
        assert [m.get("id") for m in found] == [ids[0], None, ids[1], None, None, None]
        assert found[-1] == {"": "beat"}
        assert by_offset(b"") == b""


def test_what_a_message_holds_cannot_end_its_line() -> None:
    hostile = 'a\r\n\nevent: error\ndata: {}\n\n\u2028"'
    payload = b'{"a":\r\n\r\n[1,\r2]}'
    message = types_pb2.Message(text=hostile)
    block = types_pb2.Block(type="card", payload_json=payload)
    frames = [
        Frame(event=events_pb2.Event(message_added=events_pb2.MessageAdded(message=message))),
        Frame(event=events_pb2.Event(block_shown=events_pb2.BlockShown(block=block))),
        delta("s1", 0, hostile),
    ]
    first, second, third = [json.loads(m["data"]) for m in messages(by_offset(batch(*frames)))]
    assert first["event"]["message_added"]["message"]["text"] == hostile
    assert second["event"]["block_shown"]["block"]["payload"] == {"a": [1, 2]}
    assert third["transient"]["text_delta"]["text"] == hostile

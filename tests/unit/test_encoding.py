"""Events as bytes: what is joined by hand is what protobuf makes of the same."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from capsule_protocol.v1 import events_pb2, types_pb2
from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import Sender
from capsule_sidecar.storage import encoding

_texts = st.text(max_size=300)
_numbers = st.integers(min_value=1, max_value=1 << 60)


@given(_texts, st.sampled_from(Sender), st.booleans(), st.integers(0, 1 << 42), st.booleans())
def test_a_message_joined_by_hand_parses_to_what_it_was_made_of(
    text: str, sender: Sender, streamed: bool, create_ms: int, interrupted: bool
) -> None:
    stream_id = "0190b5b0-0000-7000-8000-000000000000" if streamed else ""
    body = encoding.message_added(
        "msg_1", sender, text, "chat", create_ms, stream_id=stream_id, interrupted=interrupted
    )
    expected = events_pb2.Event(
        message_added=events_pb2.MessageAdded(
            message=types_pb2.Message(
                message_id="msg_1",
                sender=int(sender),  # type: ignore[arg-type]  # enum values are ints on the wire
                text=text,
                channel_type="chat",
                create_time=encoding.timestamp(create_ms),
                interrupted=interrupted,
            ),
            stream_id=stream_id,
        )
    )
    assert body == expected.SerializeToString(deterministic=True)


@given(_numbers, _numbers, _numbers, _numbers, st.integers(0, 1 << 42))
def test_a_header_and_a_body_join_to_one_event(
    offset: int, position: int, place: int, item: int, create_ms: int
) -> None:
    data = encoding.event(
        encoding.session_prefix("ses_1"), offset, position, encoding.time_field(create_ms), place,
        item, encoding.invocation_suffix("inv_1"), encoding.session_updated("title"),
    )  # fmt: skip
    assert events_pb2.Event.FromString(data) == events_pb2.Event(
        session_id="ses_1",
        offset=offset,
        position=position,
        create_time=encoding.timestamp(create_ms),
        place=place,
        item_offset=item,
        invocation_id="inv_1",
        session_updated=events_pb2.SessionUpdated(title="title"),
    )


def test_ids_made_later_sort_later_and_never_repeat() -> None:
    made = [new_id("msg") for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert [i[:14] for i in made] == sorted(i[:14] for i in made)
    assert all(len(i) == 30 for i in made)


def test_a_process_that_was_forked_makes_other_ids() -> None:
    new_id("msg")  # some randomness is drawn and left
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id("msg")[-16:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 16).decode()
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 16
    assert theirs != new_id("msg")[-16:]


def test_digests_tell_lists_of_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("", "a") != digest("a", "")
    assert digest("a", "b") == digest(b"a", "b")

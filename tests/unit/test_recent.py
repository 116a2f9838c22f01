"""What is remembered of a session that talks: its newest messages, without a gap."""

from __future__ import annotations

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.runtime.recent import Entry


def test_a_message_behind_what_is_kept_is_left_to_storage() -> None:
    entry = Entry("support", types_pb2.UserInfo())
    for place in (10, 11, 12):
        entry.add(place, place, b"kept")
    entry.trimmed = True  # there are older ones, which are not kept
    entry.add(3, 3, b"streamed for long by a task")
    assert entry.history(13, 3, 1_000) == [b"kept"] * 3
    assert entry.history(13, 4, 1_000) is None, "storage knows the fourth"
    entry.add(11, 11, b"changed")
    entry.add(13, 13, b"newest")
    assert entry.history(14, 3, 1_000) == [b"changed", b"kept", b"newest"]

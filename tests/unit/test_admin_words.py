"""What the operator's commands say of each event, of what a newer sidecar adds, of hostile text."""

from __future__ import annotations

import re

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from capsule_protocol.v1 import admin_service_pb2, events_pb2, task_service_pb2, types_pb2
from capsule_sidecar.commands import admin_words

KINDS = [field.name for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["kind"].fields]
UNKNOWN = "an event that this version does not know"
HOSTILE = "\x1b[2J\x07\x9b31mred\nnext"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "session_deleted"])
def test_every_event_of_a_log_has_words_of_its_own(kind: str) -> None:
    event = events_pb2.Event(offset=7, invocation_id="inv_1")
    getattr(event, kind).SetInParent()
    row = admin_words.event_row(event)
    assert row.startswith("     7  ")
    assert UNKNOWN not in row
    assert "\n" not in row


def test_an_event_of_a_newer_sidecar_is_named_as_unknown() -> None:
    assert admin_words.event_row(events_pb2.Event(offset=1)).endswith(UNKNOWN)


def test_a_value_of_a_newer_sidecar_is_shown_by_its_number() -> None:
    assert admin_words.status_name(99) == "99"
    assert admin_words.kind_name(types_pb2.INVOCATION_KIND_TASK) == "task"


def test_nothing_that_others_wrote_steers_the_terminal_or_breaks_a_row() -> None:
    events = [
        events_pb2.Event(
            message_added=events_pb2.MessageAdded(
                message=types_pb2.Message(
                    sender=types_pb2.SENDER_USER,
                    text=HOSTILE,
                    attachments=[types_pb2.Attachment(name=HOSTILE)],
                )
            )
        ),
        events_pb2.Event(
            block_shown=events_pb2.BlockShown(
                block=types_pb2.Block(block_id=HOSTILE, type="x", payload_json=HOSTILE.encode())
            )
        ),
        events_pb2.Event(
            action_sent=events_pb2.ActionSent(name=HOSTILE, payload_json=HOSTILE.encode())
        ),
        events_pb2.Event(task_submitted=events_pb2.TaskSubmitted(name=HOSTILE, task_id="tsk_1")),
        events_pb2.Event(session_updated=events_pb2.SessionUpdated(title=HOSTILE)),
    ]
    rows = [admin_words.event_row(event) for event in events]
    answer = admin_service_pb2.GetInvocationResponse(
        invocation=admin_service_pb2.InvocationInfo(name=HOSTILE, error_type=HOSTILE),
        task=task_service_pb2.Task(progress=0.5, progress_message=HOSTILE, lock=HOSTILE),
    )
    rows += [value for name, value in admin_words.invocation_fields(answer) if name != "arguments"]
    for row in rows:
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", row), row
    data = admin_words.pretty(b'{"a":"\\u001b[2J","n":1e400000,"m":[1,2]}')
    assert "\x1b" not in data


def test_times_are_the_operators_own_and_none_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert admin_words.when(Timestamp(seconds=1_700_000_000)) == "2023-11-15 07:13:20"
        assert admin_words.when(Timestamp()) == ""
    finally:
        monkeypatch.undo()
        time.tzset()

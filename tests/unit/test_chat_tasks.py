"""Background tasks in the terminal chat: a row that changes in place, and no turn of it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from capsule_protocol.v1 import channel_service_pb2 as channel_pb
from capsule_protocol.v1 import events_pb2 as pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_cards import card as other_card
from capsule_sidecar.commands.chat_changes import BlockChanged, Change, StatusChanged, StepLeft
from capsule_sidecar.commands.chat_screen import PlainScreen
from capsule_sidecar.commands.chat_tasks import end_rows, progress_words, task, task_row
from capsule_sidecar.commands.chat_transcript import Transcript
from capsule_sidecar.commands.chat_view import ChatView

TASK = "tsk_1"
SYNC = {"task_id": TASK, "name": "sync_mailbox", "attempt": 1, "failures": 0, "retries": 2}
FAR = {"progress": 0.4, "progress_message": "40 of\n100"}


def block(**fields: object) -> types_pb.Block:
    payload = json.dumps(SYNC | fields).encode()
    return types_pb.Block(block_id=TASK, type="task", payload_json=payload)


def row(**fields: object) -> str:
    found = task(block(**fields))
    assert found is not None
    return task_row(found) + progress_words(found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "pending", **FAR}, "[ ] Sync mailbox - waiting to start"),
        ({"status": "running"}, "[~] Sync mailbox - running"),
        ({"status": "running", **FAR}, "[~] Sync mailbox - running, 40%: 40 of 100"),
        ({"status": "running", "progress": 0.999}, "[~] Sync mailbox - running, 99%"),
        ({"status": "running", "failures": 1}, "[~] Sync mailbox - running (try 2 of 3)"),
        ({"status": "completed", **FAR}, "[x] Sync mailbox - completed"),
        ({"status": "failed", "failures": 3}, "[!] Sync mailbox - failed after 3 tries"),
        ({"status": "cancelled", "message": "Sync\x1b[2J"}, "[-] Sync�[2J - cancelled"),
        ({"status": "timed_out", "failures": 1}, "[!] Sync mailbox - timed out"),
    ],
)
def test_a_task_is_a_row_with_its_status_in_words(fields: dict[str, object], words: str) -> None:
    assert row(**fields) == words


def test_when_it_begins_is_told_by_the_clock_of_the_person() -> None:
    far = datetime.now(UTC) + timedelta(days=3)
    when = far.astimezone().strftime("%Y-%m-%d %H:%M")
    start = far.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert row(status="scheduled", start_time=start) == f"[ ] Sync mailbox - scheduled, {when}"
    words = row(status="retrying", failures=1, start_time=start)
    assert words == f"[~] Sync mailbox - trying again (try 2 of 3), {when}"
    now = datetime.now(UTC)
    time = now.astimezone().strftime("%H:%M:%S")
    words = row(status="retrying", failures=1, start_time=now.isoformat())
    day = now.astimezone().date()
    assert words.endswith(f", {time}") or day != datetime.now(UTC).astimezone().date()  # midnight


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"status": "completed"}, []),
        ({"status": "completed", "result": "two\nrows"}, ["two", "rows"]),
        ({"status": "completed", "result": 0}, ["0"]),
        ({"status": "completed", "result": False}, ["no"]),
        ({"status": "completed", "result": {"synced": 1}}, ["{", '  "synced": 1', "}"]),
        ({"status": "running", "result": 1}, []),
        ({"status": "failed", "reference_id": "ref_7"}, ["Reference: ref_7"]),
        ({"status": "cancelled"}, []),
    ],
)
def test_what_came_of_it_stands_below(fields: dict[str, object], rows: list[str]) -> None:
    found = task(block(**fields))
    assert found is not None
    assert end_rows(found) == rows


def test_a_long_result_is_cut_and_says_so() -> None:
    found = task(block(status="completed", result=list(range(100))))
    assert found is not None
    assert len(end_rows(found)) == 41
    assert end_rows(found)[-1] == "(and 62 more rows)"


@pytest.mark.parametrize("status", ["done", "", None, 5])
def test_what_is_no_task_is_shown_like_any_other_block(status: object) -> None:
    assert task(block(status=status)) is None
    assert other_card(block(status=status), update=False).title == "[task]"


class Chat:
    """A view with a plain screen."""

    def __init__(self) -> None:
        self.view = ChatView("s")
        self.view.resume()
        self.view.apply(pb.FollowFrame(snapshot=pb.Snapshot(first=True, last=True)))
        self.out = io.StringIO()
        self._transcript = Transcript("demo", PlainScreen(self.out))
        self._offset = 0

    def event(self, invocation_id: str = "", **kind: object) -> list[Change]:
        self._offset += 1
        made = pb.Event(offset=self._offset, invocation_id=invocation_id, **kind)  # type: ignore[arg-type]  # one kind
        return self.frame(pb.FollowFrame(event=made))

    def frame(self, frame: pb.FollowFrame) -> list[Change]:
        changes = self.view.apply(frame)
        for change in changes:
            self._transcript.show(change, self.view)
        return changes

    def card(self, **fields: object) -> list[Change]:
        return self.event(block_shown=pb.BlockShown(block=block(**fields)))

    def said(self) -> None:
        message = types_pb.Message(message_id="m", sender=types_pb.SENDER_USER, text="sync")
        self.event("inv_1", message_added=pb.MessageAdded(message=message))
        self.event("inv_1", task_submitted=pb.TaskSubmitted(task_id=TASK, name="sync_mailbox"))

    def turn_ends(self) -> None:
        status = types_pb.INVOCATION_STATUS_COMPLETED
        self.event("inv_1", invocation_ended=pb.InvocationEnded(status=status))

    def task_ends(
        self, status: types_pb.InvocationStatus.ValueType = types_pb.INVOCATION_STATUS_COMPLETED
    ) -> list[Change]:
        kind = types_pb.INVOCATION_KIND_TASK
        return self.event(TASK, invocation_ended=pb.InvocationEnded(kind=kind, status=status))


def test_a_card_changes_in_place_and_a_pipe_gets_a_row_for_each_status() -> None:
    chat = Chat()
    chat.said()
    passing = [
        change.passing
        for fields in (
            {"status": "pending"},
            {"status": "running"},
            {"status": "running", "progress": 0.3},
            {"status": "running", "progress": 0.6},
            {"status": "completed", "result": "4 new"},
        )
        for change in chat.card(**fields)
        if isinstance(change, BlockChanged)
    ]
    assert passing == [True, True, True, True, False]
    assert chat.out.getvalue() == (
        "you: sync\n"
        "[ ] Sync mailbox - waiting to start\n"
        "[~] Sync mailbox - running\n"
        "[x] Sync mailbox - completed\n"
        "  4 new\n"
    )


@pytest.mark.parametrize(
    "status",
    [
        types_pb.INVOCATION_STATUS_COMPLETED,
        types_pb.INVOCATION_STATUS_FAILED,
        types_pb.INVOCATION_STATUS_CANCELLED,
        types_pb.INVOCATION_STATUS_TIMED_OUT,
    ],
)
def test_the_end_of_a_task_is_no_end_of_a_turn(status: types_pb.InvocationStatus.ValueType) -> None:
    chat = Chat()
    chat.said()
    assert chat.view.stoppable() == "inv_1"
    assert chat.task_ends(status) == []
    assert chat.view.stoppable() == "inv_1"
    chat.turn_ends()
    assert chat.view.stoppable() == ""
    assert chat.out.getvalue() == "you: sync\n"


def test_what_a_task_says_and_shows_goes_on_until_it_ends() -> None:
    chat = Chat()
    chat.said()
    chat.turn_ends()
    line = pb.StatusLine(invocation_id=TASK, text="Reading")
    chat.frame(pb.FollowFrame(transient=pb.Transient(after_offset=3, status_line=line)))
    assert [one.text for one in chat.view.status_lines] == ["Reading"]
    payload = json.dumps({"label": "Read", "status": "running"}).encode()
    step = types_pb.Block(block_id="b", type="step", payload_json=payload)
    (shown,) = chat.event(TASK, block_shown=pb.BlockShown(block=step))
    assert isinstance(shown, BlockChanged)
    assert shown.passing
    changes = chat.task_ends()
    assert [type(change) for change in changes] == [StatusChanged, StepLeft]
    assert chat.view.status_lines == []


def test_a_task_that_failed_and_is_tried_once_more_is_heard_again() -> None:
    chat = Chat()
    chat.said()
    chat.turn_ends()
    chat.card(status="failed")
    chat.task_ends(types_pb.INVOCATION_STATUS_FAILED)
    line = pb.StatusLine(invocation_id=TASK, text="Reading")
    said = pb.FollowFrame(transient=pb.Transient(after_offset=6, status_line=line))
    assert chat.frame(said) == []
    chat.card(status="running")
    chat.frame(said)
    assert [one.text for one in chat.view.status_lines] == ["Reading"]


def test_a_page_with_tasks_makes_no_turn_of_them() -> None:
    payload = json.dumps({"label": "Read", "status": "running"}).encode()
    step = types_pb.Block(block_id="b", type="step", payload_json=payload)
    failed = pb.InvocationEnded(
        kind=types_pb.INVOCATION_KIND_TASK, status=types_pb.INVOCATION_STATUS_FAILED
    )

    def loaded(status: str) -> tuple[ChatView, list[bool]]:
        page = channel_pb.GetTimelineResponse(
            items=[
                channel_pb.TimelineItem(block=step, invocation_id=TASK),
                channel_pb.TimelineItem(block=block(status=status)),
                channel_pb.TimelineItem(ended=failed),
            ],
            pending=[
                channel_pb.PendingInvocation(invocation_id=TASK, kind=types_pb.INVOCATION_KIND_TASK)
            ],
        )
        view = ChatView("s")
        changes = view.load(page)
        assert all(isinstance(change, BlockChanged) for change in changes)
        return view, [change.passing for change in changes if isinstance(change, BlockChanged)]

    view, passing = loaded("running")
    assert (view.stoppable(), passing) == ("", [True, True])
    view, passing = loaded("cancelled")
    assert (view.stoppable(), passing) == ("", [False, False])

from __future__ import annotations

import json
import random

import pytest

from capsule_protocol.v1 import channel_service_pb2 as channel_pb
from capsule_protocol.v1 import events_pb2 as pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_changes import (
    BlockChanged,
    Change,
    MessageShown,
    PresenceChanged,
    QuestionAsked,
    QuestionEnded,
    StateChanged,
    StatusChanged,
    StepLeft,
    StreamBegun,
    StreamChanged,
    StreamGone,
    TitleChanged,
    TurnEnded,
)
from capsule_sidecar.commands.chat_stream import OutOfStep
from capsule_sidecar.commands.chat_view import ChatView

_EXPIRED = types_pb.PROMPT_STATUS_EXPIRED


def kinds(changes: list[Change]) -> list[type]:
    return [type(change) for change in changes]


def event(offset: int, invocation_id: str = "i1", **kind: object) -> pb.FollowFrame:
    made = pb.Event(session_id="s", offset=offset, invocation_id=invocation_id, **kind)  # type: ignore[arg-type]  # one kind
    return pb.FollowFrame(event=made)


def asked(offset: int, text: str = "hi", invocation_id: str = "i1") -> pb.FollowFrame:
    message = types_pb.Message(message_id=f"m{offset}", sender=types_pb.SENDER_USER, text=text)
    return event(offset, invocation_id, message_added=pb.MessageAdded(message=message))


def answered(offset: int, text: str, stream_id: str = "") -> pb.FollowFrame:
    message = types_pb.Message(message_id=f"m{offset}", sender=types_pb.SENDER_APP, text=text)
    return event(offset, message_added=pb.MessageAdded(message=message, stream_id=stream_id))


def opened(offset: int, stream_id: str = "st") -> pb.FollowFrame:
    return event(offset, stream_opened=pb.StreamOpened(stream_id=stream_id, message_id="m"))


def ended(
    offset: int, status: types_pb.InvocationStatus.ValueType, invocation_id: str = "i1"
) -> pb.FollowFrame:
    return event(offset, invocation_id, invocation_ended=pb.InvocationEnded(status=status))


def delta(
    after: int, position: int, text: str, revision: int = 0, stream_id: str = "st"
) -> pb.FollowFrame:
    made = pb.TextDelta(stream_id=stream_id, revision=revision, position=position, text=text)
    return pb.FollowFrame(transient=pb.Transient(after_offset=after, text_delta=made))


def status(after: int, text: str, invocation_id: str = "i1") -> pb.FollowFrame:
    line = pb.StatusLine(invocation_id=invocation_id, text=text)
    return pb.FollowFrame(transient=pb.Transient(after_offset=after, status_line=line))


def snapshot(
    offset: int, *, first: bool = True, last: bool = True, **rest: object
) -> pb.FollowFrame:
    made = pb.Snapshot(offset=offset, first=first, last=last, **rest)  # type: ignore[arg-type]  # by name
    return pb.FollowFrame(snapshot=made)


def beat(offset: int) -> pb.FollowFrame:
    return pb.FollowFrame(beat=pb.FollowBeat(offset=offset))


def fold(*frames: pb.FollowFrame) -> tuple[ChatView, list[Change]]:
    view = ChatView("s")
    assert view.resume() == 0
    assert view.apply(snapshot(0)) == []
    return view, [change for frame in frames for change in view.apply(frame)]


def test_a_message_is_shown_once_however_often_it_is_read() -> None:
    view, changes = fold(asked(1), asked(1), answered(2, "hello"), asked(1), answered(2, "hello"))
    assert kinds(changes) == [MessageShown, MessageShown]
    assert view.offset == 2


def test_a_gap_in_the_log_is_noticed_and_the_view_stays_where_it_was() -> None:
    view, _ = fold(asked(1))
    with pytest.raises(OutOfStep):
        view.apply(answered(3, "lost"))
    assert view.offset == 1


def test_deltas_make_the_text_and_what_is_there_already_is_ignored() -> None:
    view, changes = fold(
        asked(1), opened(2), delta(2, 0, "one "), delta(2, 0, "one two "), delta(2, 4, "two")
    )
    assert view.streams["st"].text == "one two "
    assert kinds(changes) == [MessageShown, StreamBegun, StreamChanged, StreamChanged]


def test_positions_count_code_points() -> None:
    view, _ = fold(asked(1), opened(2), delta(2, 0, "é😀"), delta(2, 2, "!"))
    assert view.streams["st"].text == "é😀!"


def test_a_delta_that_leaves_a_gap_is_noticed() -> None:
    view, _ = fold(asked(1), opened(2), delta(2, 0, "one"))
    with pytest.raises(OutOfStep):
        view.apply(delta(2, 4, "three"))


def test_a_higher_revision_cuts_the_text_and_a_lower_one_is_late() -> None:
    view, _ = fold(
        asked(1), opened(2), delta(2, 0, "one two"), delta(2, 4, "2", revision=1), delta(2, 7, "!")
    )
    assert view.streams["st"].text == "one 2"


def test_a_transient_waits_for_the_event_it_belongs_behind() -> None:
    view, changes = fold(asked(1), delta(2, 0, "early"))
    assert kinds(changes) == [MessageShown]
    assert kinds(view.apply(opened(2))) == [StreamBegun, StreamChanged]
    assert view.streams["st"].text == "early"


def test_a_delta_that_comes_after_its_stream_ended_shows_nothing() -> None:
    view, _ = fold(asked(1), opened(2), delta(2, 0, "one"), answered(3, "one", "st"))
    assert view.apply(delta(2, 3, " two")) == []
    assert view.streams == {}


def test_a_stream_of_an_earlier_attempt_goes_and_the_next_begins_empty() -> None:
    withdrawn = event(3, stream_withdrawn=pb.StreamWithdrawn(stream_id="st"))
    view, changes = fold(
        asked(1), opened(2), delta(2, 0, "1 2"), withdrawn, opened(4, "again"),
        delta(4, 0, "1 2 3", stream_id="again"),
    )  # fmt: skip
    assert kinds(changes)[-3:] == [StreamGone, StreamBegun, StreamChanged]
    assert {key: stream.text for key, stream in view.streams.items()} == {"again": "1 2 3"}


def test_a_snapshot_replaces_the_text_and_what_was_held() -> None:
    open_stream = pb.OpenStreamState(stream_id="st", text="one two")
    view, changes = fold(
        asked(1), opened(2), delta(2, 0, "one two thr"), snapshot(2, streams=[open_stream])
    )
    assert view.streams["st"].text == "one two"
    assert kinds(changes)[-1] is StreamChanged
    view.apply(delta(2, 7, " three"))
    assert view.streams["st"].text == "one two three"


def test_a_snapshot_in_several_frames_counts_with_its_last() -> None:
    view, _ = fold(asked(1), opened(2, "a"), opened(3, "b"))
    part = pb.OpenStreamState(stream_id="a", text="A")
    assert view.apply(snapshot(3, last=False, streams=[part])) == []
    assert view.streams["a"].text == ""
    rest = pb.OpenStreamState(stream_id="b", text="B")
    view.apply(snapshot(3, first=False, streams=[rest], presence=pb.AppPresence(online=False)))
    assert [stream.text for stream in view.streams.values()] == ["A", "B"]
    assert view.online is False


def test_what_passes_before_the_snapshot_of_a_line_is_left_to_the_snapshot() -> None:
    view, _ = fold(asked(1), delta(2, 0, "held when the line broke"))
    assert view.resume() == 1
    assert kinds(view.apply(opened(2))) == [StreamBegun]
    assert view.apply(delta(2, 40, "far ahead")) == []
    view.apply(snapshot(2, streams=[pb.OpenStreamState(stream_id="st", text="so far")]))
    view.apply(delta(2, 6, " so good"))
    assert view.streams["st"].text == "so far so good"


def test_presence_is_told_when_it_changes() -> None:
    view = ChatView("s")
    changes = view.apply(snapshot(0, presence=pb.AppPresence(online=True)))
    assert changes == [PresenceChanged(True)]
    assert view.apply(snapshot(0, presence=pb.AppPresence(online=True))) == []
    gone = pb.Transient(app_presence=pb.AppPresence(online=False))
    assert view.apply(pb.FollowFrame(transient=gone)) == [PresenceChanged(False)]


def test_a_status_line_ends_with_a_message_a_stream_or_the_end_of_its_invocation() -> None:
    for end in (
        answered(2, "done"),
        opened(2),
        ended(2, types_pb.INVOCATION_STATUS_COMPLETED),
        status(1, ""),
    ):
        view, _ = fold(asked(1), status(1, "Thinking"))
        assert [line.text for line in view.status.values()] == ["Thinking"]
        assert StatusChanged() in view.apply(end)
        assert view.status == {}


def test_a_status_line_of_an_invocation_that_ended_is_not_shown() -> None:
    view, _ = fold(asked(1), ended(2, types_pb.INVOCATION_STATUS_COMPLETED), status(2, "late"))
    assert view.status == {}


def test_stop_means_the_first_invocation_that_has_not_ended() -> None:
    view, _ = fold(asked(1, invocation_id="a"), asked(2, invocation_id="b"))
    assert view.stoppable() == "a"
    view.apply(ended(3, types_pb.INVOCATION_STATUS_STOPPED, "a"))
    assert view.stoppable() == "b"
    view.apply(ended(4, types_pb.INVOCATION_STATUS_COMPLETED, "b"))
    assert view.stoppable() == ""
    view.apply(event(5, "x", session_closing=pb.SessionClosing()))
    assert view.stoppable() == ""  # goodbyes cannot be stopped


def test_only_an_end_that_is_no_completion_is_told() -> None:
    _, changes = fold(asked(1), ended(2, types_pb.INVOCATION_STATUS_COMPLETED))
    assert kinds(changes) == [MessageShown]
    _, changes = fold(asked(1), ended(2, types_pb.INVOCATION_STATUS_FAILED))
    assert kinds(changes) == [MessageShown, TurnEnded]


def test_a_block_with_a_known_id_is_an_update() -> None:
    def shown(offset: int, payload: object) -> pb.FollowFrame:
        block = types_pb.Block(block_id="b", type="card", payload_json=json.dumps(payload).encode())
        return event(offset, block_shown=pb.BlockShown(block=block))

    view, changes = fold(shown(1, {"n": 1}), shown(2, {"buttons": [{"action": "more"}]}))
    assert [c.update for c in changes if isinstance(c, BlockChanged)] == [False, True]
    assert view.button("more") == ("b", b"{}")
    assert view.button("less") == ("", b"")


def prompted(
    offset: int, prompt_id: str = "p", invocation_id: str = "i1", **fields: object
) -> pb.FollowFrame:
    prompt = types_pb.Prompt(prompt_id=prompt_id, status=types_pb.PROMPT_STATUS_OPEN, **fields)  # type: ignore[arg-type]  # by name
    return event(offset, invocation_id, prompt_opened=pb.PromptOpened(prompt=prompt))


def over(offset: int, made: int, prompt_id: str = "p") -> pb.FollowFrame:
    prompt = types_pb.Prompt(prompt_id=prompt_id, status=types_pb.PROMPT_STATUS_DISMISSED)
    frame = event(offset, prompt_ended=pb.PromptEnded(prompt=prompt))
    frame.event.item_offset = made
    return frame


def waiting(prompt_id: str, offset: int) -> pb.OpenPrompt:
    prompt = types_pb.Prompt(prompt_id=prompt_id, status=types_pb.PROMPT_STATUS_OPEN)
    return pb.OpenPrompt(prompt=prompt, offset=offset, invocation_id="i1")


def test_a_question_is_asked_once_and_ends_under_its_number() -> None:
    view, changes = fold(asked(1), prompted(2), prompted(3, "q"))
    assert [c.question.number for c in changes if isinstance(c, QuestionAsked)] == [1, 2]
    assert [q.prompt.prompt_id for q in view.questions] == ["p", "q"]
    assert view.asking
    (ended_now,) = view.apply(over(4, 2))
    assert isinstance(ended_now, QuestionEnded)
    assert ended_now.number == 1
    assert [q.number for q in view.questions] == [2]
    view.apply(prompted(5, "r"))
    assert [q.number for q in view.questions] == [2, 3]  # a number is never given twice


def test_a_question_from_before_the_page_comes_with_the_snapshot_and_is_the_older() -> None:
    view, _ = fold(asked(1), prompted(2))
    parts = [
        snapshot(2, last=False, prompts=[waiting("p", 2), waiting("b", -1)]),
        snapshot(2, first=False, prompts=[waiting("a", -2)]),
    ]
    assert view.apply(parts[0]) == []
    found = [c.question for c in view.apply(parts[1]) if isinstance(c, QuestionAsked)]
    assert [(q.prompt.prompt_id, q.number) for q in found] == [("a", 2), ("b", 3)]
    assert [q.prompt.prompt_id for q in view.questions] == ["a", "b", "p"]


def test_a_question_that_was_seen_to_end_does_not_come_back() -> None:
    view, _ = fold(asked(1), prompted(2), over(3, 2))
    assert view.apply(snapshot(3, prompts=[waiting("p", 2)])) == []
    assert not view.is_open("p")


def test_while_a_question_waits_its_work_does_not_say_what_it_does() -> None:
    view, _ = fold(asked(1), asked(2, invocation_id="i2"), status(2, "Thinking"))
    view.apply(status(2, "Other", invocation_id="i2"))
    view.apply(prompted(3))
    assert [line.text for line in view.status_lines] == ["Other"]
    assert view.stoppable() == "i1"
    view.apply(over(4, 3))
    assert [line.text for line in view.status_lines] == ["Thinking", "Other"]
    assert not view.asking


def test_a_step_passes_until_it_is_over_or_its_work_is() -> None:
    def step(offset: int, status: str, block_id: str = "b") -> pb.FollowFrame:
        payload = json.dumps({"label": "Look", "status": status}).encode()
        block = types_pb.Block(block_id=block_id, type="step", payload_json=payload)
        return event(offset, block_shown=pb.BlockShown(block=block))

    view, changes = fold(
        asked(1),
        step(2, "pending"),
        step(3, "running"),
        step(4, "completed"),
        step(5, "running", "c"),
    )
    shown = [change.passing for change in changes if isinstance(change, BlockChanged)]
    assert shown == [True, True, False, True]
    (left,) = view.apply(ended(6, types_pb.INVOCATION_STATUS_COMPLETED))
    assert isinstance(left, StepLeft)
    assert left.block.block_id == "c"
    (late,) = view.apply(step(7, "running"))
    assert isinstance(late, BlockChanged)
    assert not late.passing


def test_suggestions_are_those_that_were_shown_last() -> None:
    def suggested(offset: int, block_id: str, *items: object) -> pb.FollowFrame:
        payload = json.dumps({"items": items}).encode()
        block = types_pb.Block(block_id=block_id, type="suggestions", payload_json=payload)
        return event(offset, block_shown=pb.BlockShown(block=block))

    view, _ = fold(
        suggested(1, "a", "one"),
        suggested(2, "b", "two"),
        suggested(3, "a", {"label": "x", "text": "3"}),
    )
    assert view.suggestions() == ["3"]


def test_title_and_end_of_the_session_are_told() -> None:
    view, changes = fold(
        event(1, session_updated=pb.SessionUpdated(title="Trip")),
        event(2, session_closing=pb.SessionClosing()),
        event(3, session_closed=pb.SessionClosed()),
    )
    assert changes == [
        TitleChanged("Trip"),
        StateChanged(types_pb.SESSION_STATE_CLOSING),
        StateChanged(types_pb.SESSION_STATE_CLOSED),
    ]
    assert view.title == "Trip"


def test_what_a_newer_sidecar_sends_is_skipped_and_its_offset_counts() -> None:
    view, changes = fold(asked(1), event(2), pb.FollowFrame(), answered(3, "on"))
    assert kinds(changes) == [MessageShown, MessageShown]
    assert view.offset == 3


def test_a_beat_may_overtake_an_event_but_not_two_beats() -> None:
    view, _ = fold(asked(1), beat(2))
    view.apply(answered(2, "there"))
    view.apply(beat(3))
    with pytest.raises(OutOfStep):
        view.apply(beat(3))


def test_a_page_of_the_timeline_stands_for_the_log_before_it() -> None:
    page = channel_pb.GetTimelineResponse(
        offset=7,
        session=types_pb.Session(title="T", state=types_pb.SESSION_STATE_OPEN),
        items=[
            channel_pb.TimelineItem(message=types_pb.Message(text="hi")),
            channel_pb.TimelineItem(stream=pb.StreamOpened(stream_id="st"), invocation_id="i1"),
            channel_pb.TimelineItem(block=types_pb.Block(block_id="b", type="card")),
            channel_pb.TimelineItem(ended=pb.InvocationEnded()),
            channel_pb.TimelineItem(
                prompt=types_pb.Prompt(prompt_id="p", status=types_pb.PROMPT_STATUS_OPEN),
                invocation_id="i1",
                offset=6,
            ),
            channel_pb.TimelineItem(prompt=types_pb.Prompt(prompt_id="q", status=_EXPIRED)),
        ],
        pending=[
            channel_pb.PendingInvocation(invocation_id="i1", kind=types_pb.INVOCATION_KIND_MESSAGE)
        ],
    )
    view = ChatView("s")
    changes = view.load(page)
    assert kinds(changes) == [
        MessageShown, StreamBegun, BlockChanged, TurnEnded, QuestionAsked, QuestionEnded,
    ]  # fmt: skip
    assert [question.offset for question in view.questions] == [6]
    assert (view.offset, view.title, view.stoppable()) == (7, "T", "i1")
    view.apply(snapshot(7, streams=[pb.OpenStreamState(stream_id="st", text="so far")]))
    assert view.streams["st"].text == "so far"
    view.apply(answered(8, "so far so good", "st"))
    assert view.streams == {}


def test_wherever_the_line_breaks_the_same_is_seen() -> None:
    """A log with a stream, read with breaks, repeats and lost tails, folds to the same texts."""
    text = "".join(f"{number} " for number in range(1, 60))
    log = [
        asked(1),
        opened(2),
        answered(3, text, "st"),
        ended(4, types_pb.INVOCATION_STATUS_COMPLETED),
    ]
    for seed in range(200):
        chance = random.Random(seed)
        view, changes = ChatView("s"), list[Change]()
        durable = length = 0  # of the stream, at the sidecar
        while length < len(text):
            # A follower comes: the log after its offset, a snapshot, then deltas.
            assert view.resume() == view.offset
            for frame in log[:2]:
                if frame.event.offset > view.offset or chance.random() < 0.3:
                    changes += view.apply(frame)
            so_far = pb.OpenStreamState(stream_id="st", text=text[:length])
            changes += view.apply(snapshot(2, streams=[so_far]))
            for _ in range(chance.randrange(6)):
                size = chance.randrange(1, 30)
                changes += view.apply(delta(2, length, text[length : length + size]))
                length = min(length + size, len(text))
                assert view.streams["st"].text == text[:length], seed
                if chance.random() < 0.3:
                    durable = length
            if chance.random() < 0.5:
                length = durable  # the sidecar was killed
        for frame in log:
            changes += view.apply(frame)
        shown = [change for change in changes if isinstance(change, MessageShown)]
        assert [change.message.text for change in shown] == ["hi", text], seed
        assert (view.streams, view.pending) == ({}, {}), seed

from __future__ import annotations

import io
import random

import pytest

from capsule_protocol.v1 import events_pb2 as pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_changes import (
    BlockChanged,
    Change,
    MessageShown,
    PresenceChanged,
    StatusChanged,
    StreamGone,
    TurnEnded,
)
from capsule_sidecar.commands.chat_screen import PlainScreen
from capsule_sidecar.commands.chat_stream import LiveStream
from capsule_sidecar.commands.chat_terminal import LiveText, wrap
from capsule_sidecar.commands.chat_transcript import Transcript
from capsule_sidecar.commands.chat_view import ChatView
from capsule_sidecar.commands.chat_words import safe


class Plain:
    """A plain screen and what it has written."""

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.screen = PlainScreen(self.out)
        self.transcript = Transcript("demo", self.screen)

    def show(self, *changes: Change, view: ChatView | None = None) -> str:
        for change in changes:
            self.transcript.show(change, view or ChatView("s"))
        return self.out.getvalue()


def message(text: str, sender: types_pb.Sender.ValueType = types_pb.SENDER_APP) -> MessageShown:
    return MessageShown(types_pb.Message(text=text, sender=sender))


def ended(
    status: types_pb.InvocationStatus.ValueType, reason: str = "", reference: str = ""
) -> TurnEnded:
    return TurnEnded(pb.InvocationEnded(status=status, reason=reason, reference_id=reference))


def test_messages_are_lines_behind_who_said_them() -> None:
    assert Plain().show(message("hi", types_pb.SENDER_USER), message("two\nlines")) == (
        "you: hi\ndemo: two\nlines\n"
    )


def test_a_stream_is_written_as_it_comes_and_nothing_twice() -> None:
    plain = Plain()
    for text in ("", "one ", "one two", "one two", "one two three"):
        plain.screen.live("a", "demo", text)
    plain.screen.settle("a", "demo", "one two three.")
    assert plain.out.getvalue() == "demo: one two three.\n"


def test_a_stream_that_is_shorter_after_a_restart_goes_on_where_it_was() -> None:
    plain = Plain()
    for text in ("one two", "one", "one two", "one two three"):
        plain.screen.live("a", "demo", text)
    plain.screen.settle("a", "demo", "one two three")
    assert plain.out.getvalue() == "demo: one two three\n"


def test_what_comes_between_gets_a_line_of_its_own_and_the_stream_goes_on() -> None:
    plain = Plain()
    plain.screen.live("a", "demo", "one ")
    plain.screen.note("between")
    plain.screen.live("a", "demo", "one two")
    plain.screen.settle("a", "demo", "one two", "interrupted")
    assert plain.out.getvalue() == "demo: one \n[between]\ndemo (goes on): two [interrupted]\n"


def test_a_text_that_became_another_is_written_anew_and_says_so() -> None:
    plain = Plain()
    plain.screen.live("a", "demo", "one two")
    plain.screen.live("a", "demo", "one 2")
    plain.screen.settle("a", "demo", "one")
    assert plain.out.getvalue() == "demo: one two\ndemo (revised): one 2\ndemo (revised): one\n"


def test_a_message_whose_stream_was_never_seen_is_written_whole() -> None:
    plain = Plain()
    plain.screen.settle("a", "demo", "one")
    plain.screen.settle("b", "demo", "", "interrupted")
    assert plain.out.getvalue() == "demo: one\ndemo: [interrupted]\n"


def test_a_withdrawn_stream_is_told_where_it_was_seen() -> None:
    plain = Plain()
    plain.screen.live("unseen", "demo", "")
    assert plain.show(StreamGone("unseen")) == ""
    plain.screen.live("seen", "demo", "one")
    assert "withdrawn" in plain.show(StreamGone("seen"))


def test_a_failed_turn_gives_the_reference_and_no_inner_words() -> None:
    failed = types_pb.INVOCATION_STATUS_FAILED
    assert Plain().show(ended(failed, "HANDLER_ERROR", "r-1")) == (
        "[! Something went wrong. Reference: r-1]\n"
    )
    assert "too long" in Plain().show(ended(failed, "DEADLINE"))
    assert "several times" in Plain().show(ended(failed, "ATTEMPTS_EXHAUSTED"))


def test_a_stop_is_told_and_an_enter_that_nobody_handles_is_not() -> None:
    assert Plain().show(ended(types_pb.INVOCATION_STATUS_STOPPED, "STOPPED")) == "[stopped]\n"
    unhandled = pb.InvocationEnded(
        status=types_pb.INVOCATION_STATUS_UNHANDLED, kind=types_pb.INVOCATION_KIND_ENTER
    )
    assert Plain().show(TurnEnded(unhandled)) == ""
    unhandled.kind = types_pb.INVOCATION_KIND_ACTION
    assert "does not know this action" in Plain().show(TurnEnded(unhandled))


def test_a_block_is_its_type_and_what_it_carries_and_an_update_says_so() -> None:
    block = types_pb.Block(block_id="b1", type="card", payload_json=b'{"n":[1,"\xc3\xa9"]}')
    plain = Plain()
    assert plain.show(BlockChanged(block, update=False)) == "[card]\nN: 1, é\n"
    assert "[card, changed]\n" in plain.show(BlockChanged(block, update=True))


def test_a_status_line_is_written_when_it_is_new() -> None:
    plain, view = Plain(), ChatView("s")
    view.status["i"] = pb.StatusLine(text="Thinking", detail="hard")
    plain.show(StatusChanged(), StatusChanged(), view=view)
    view.status.clear()
    assert plain.show(StatusChanged(), view=view) == "[... Thinking (hard)]\n"


def test_offline_is_told_when_it_begins_and_when_it_ends() -> None:
    plain = Plain()
    plain.show(PresenceChanged(True))
    assert plain.out.getvalue() == ""
    plain.show(PresenceChanged(False))
    assert plain.out.getvalue() == "[demo is offline: messages wait for it]\n"
    plain.transcript.line(False)
    assert "no connection to the sidecar" in plain.out.getvalue()
    plain.transcript.line(True)
    assert plain.show(PresenceChanged(True)).endswith("[back again]\n")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b2J", "a\rb", "\x07", "\x08", "\x7f", "\x00"])
def test_no_text_can_steer_the_terminal(hostile: str) -> None:
    block = types_pb.Block(block_id=hostile, type="card", payload_json=b'{"a":"\\u009b\\u001b"}')
    view = ChatView("s")
    view.status["i"] = pb.StatusLine(text=hostile, detail=hostile)
    plain = Plain()
    plain.screen.live("st", "demo", safe(LiveStream("st", "m", "i", 0, hostile).text))
    plain.show(
        message(hostile), BlockChanged(block, update=False), StatusChanged(),
        ended(types_pb.INVOCATION_STATUS_FAILED, reference=hostile), view=view,
    )  # fmt: skip
    written = set(plain.out.getvalue())
    assert not written & {chr(code) for code in [*range(9), *range(11, 32), *range(127, 160)]}


def test_rows_end_at_spaces_and_joined_are_the_text() -> None:
    assert wrap("one two three", 8) == ["one two ", "three"]
    assert wrap("one two three", 8, first=2) == ["one ", "two ", "three"]
    assert wrap("one two", 3) == ["one ", "two"]
    assert wrap("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert wrap("a\n\nb", 4) == ["a\n", "\n", "b"]
    assert wrap("", 4) == []
    assert wrap("漢字漢字", 4) == ["漢字", "漢字"]  # two cells each
    chance = random.Random(1)
    for _ in range(300):
        text = "".join(chance.choices("ab \n漢", k=chance.randrange(80)))
        width = chance.randrange(2, 12)
        rows = wrap(text, width)
        assert "".join(rows) == text
        for row in rows:
            assert len(row.rstrip(" \n")) + row.count("漢") <= width


def test_what_overflows_a_terminal_and_what_is_left_are_the_text() -> None:
    chance = random.Random(2)
    whole = "".join(f"{number} " for number in range(400))
    live, printed = LiveText("demo"), ""
    length = 0
    while length < len(whole):
        length += chance.randrange(1, 60)
        live.text = whole[:length]
        over = live.overflow(20, 5)
        live.written += over
        printed += over
        assert len(wrap(live.rest, 20)) <= 5
    assert printed + live.rest == whole
    assert printed


def test_a_text_that_shrinks_below_what_was_written_waits_and_is_no_revision() -> None:
    live = LiveText("demo")
    live.text = live.written = "one two "
    live.text = "one"
    assert (live.rest, live.revised) == ("", False)
    live.text = "one two three"
    assert (live.rest, live.revised) == ("three", False)
    live.text = "one 2"
    assert live.revised

"""What a terminal chat shows: the words for each change, and the plain screen for pipes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Protocol, TextIO

from capsule_protocol.v1 import events_pb2 as events_pb
from capsule_protocol.v1 import types_pb2 as types_pb
from capsule_sidecar.commands.chat_view import (
    ActionClicked,
    BlockChanged,
    Change,
    ChatView,
    MessageShown,
    PresenceChanged,
    StateChanged,
    StatusChanged,
    StreamBegun,
    StreamChanged,
    StreamGone,
    TitleChanged,
    TurnEnded,
)

# What a terminal would obey instead of showing: C0 without tab and line feed, DEL, and C1.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """Returns a text that a terminal only shows: what would steer it stands as a replacement."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


class Screen(Protocol):
    """Where a chat is shown. Texts are `safe` already."""

    def say(self, speaker: str, text: str, note: str = "") -> None:
        """Shows a complete message; `note` says what is special about it."""

    def live(self, key: str, speaker: str, text: str) -> None:
        """Shows the text so far of a stream."""

    def settle(self, key: str, speaker: str, text: str, note: str = "") -> None:
        """The stream is complete with this text."""

    def drop(self, key: str) -> None:
        """The stream is gone."""

    def clear(self) -> None:
        """Another session is shown from now on: open streams and status lines go."""

    def note(self, text: str, *, bad: bool = False, whole: bool = False) -> None:
        """Shows a line about the conversation that is not part of it.

        `whole`: it may hold a command, which must not be cut into rows, so that it can be copied.
        """

    def card(self, title: str, body: str) -> None:
        """Shows a block."""

    def status(self, lines: list[str]) -> None:
        """Shows the status lines in place of the last ones."""

    def footer(self, text: str) -> None:
        """Shows what holds now: no connection, app offline. Empty: all is well."""


class Transcript:
    """Puts changes of a view on a screen, in words."""

    def __init__(self, app: str, screen: Screen) -> None:
        self._app = app
        self._screen = screen
        self._up = True
        self._online = True

    def line(self, up: bool) -> None:
        """Shows that the line to the sidecar is lost, or back."""
        self._up = up
        self._footer()

    def _footer(self) -> None:
        if not self._up:
            self._screen.footer("no connection to the sidecar: trying again")
        elif not self._online:
            self._screen.footer(f"{self._app} is offline: messages wait for it")
        else:
            self._screen.footer("")

    def show(self, change: Change, view: ChatView) -> None:
        """Shows one change."""
        screen = self._screen
        match change:
            case MessageShown(message, stream_id):
                note = "interrupted" if message.interrupted else ""
                speaker = "you" if message.sender == types_pb.SENDER_USER else self._app
                if stream_id:
                    screen.settle(stream_id, speaker, safe(message.text), note)
                else:
                    screen.say(speaker, safe(message.text), note)
            case StreamBegun(stream) | StreamChanged(stream):
                screen.live(stream.stream_id, self._app, safe(stream.text))
            case StreamGone(stream_id):
                screen.drop(stream_id)
            case BlockChanged(block, update):
                screen.card(block_title(block, update=update), block_body(block))
            case ActionClicked(name):
                screen.note(f"you chose: {safe(name)}")
            case TitleChanged(title):
                screen.note(f"title: {safe(title)}" if title else "the title was removed")
            case TurnEnded(ended):
                text = ending(ended)
                if text:
                    failed = ended.status == types_pb.INVOCATION_STATUS_FAILED
                    screen.note(text, bad=failed)
            case StateChanged(state):
                if state == types_pb.SESSION_STATE_CLOSED:
                    screen.note("this session is closed; /new opens another")
            case PresenceChanged(online):
                self._online = online
                self._footer()
            case StatusChanged():
                screen.status(status_lines(view.status.values()))


def status_lines(lines: Iterable[events_pb.StatusLine]) -> list[str]:
    """Returns the words of status lines."""
    return [
        safe(f"{line.text} ({line.detail})" if line.detail else line.text).replace("\n", " ")
        for line in lines
    ]


def block_title(block: types_pb.Block, *, update: bool) -> str:
    """Returns a block's headline."""
    changed = ", changed" if update else ""
    return safe(f"[{block.type}{changed}] {block.block_id}")


def block_body(block: types_pb.Block) -> str:
    """Returns a block's payload as JSON for people."""
    try:
        payload = json.loads(block.payload_json or b"{}")
    except ValueError:
        return "(its payload cannot be read)"
    return safe(json.dumps(payload, indent=2, ensure_ascii=False))


def ending(ended: events_pb.InvocationEnded) -> str:
    """Returns what a person is told about a turn that did not complete. Empty: nothing."""
    match ended.status:
        case types_pb.INVOCATION_STATUS_STOPPED:
            return "stopped"
        case types_pb.INVOCATION_STATUS_UNHANDLED:
            action = ended.kind == types_pb.INVOCATION_KIND_ACTION
            return "the app does not know this action" if action else ""
        case types_pb.INVOCATION_STATUS_FAILED:
            what = {
                "DEADLINE": "This took too long and was ended.",
                "ATTEMPTS_EXHAUSTED": "This was tried several times and could not be finished.",
            }.get(ended.reason, "Something went wrong.")
            reference = safe(ended.reference_id)
            return f"{what} Reference: {reference}" if reference else what
        case _:
            return ""


class PlainScreen:
    """Lines for a pipe or a file. Streamed text is written as it comes, nothing is taken back."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._printed: dict[str, str] = {}
        self._line = ""  # the stream whose line is open at its end
        self._status: list[str] = []
        self._footer = ""

    def say(self, speaker: str, text: str, note: str = "") -> None:
        """Writes a message."""
        self._write(f"{speaker}: {text}{_in_brackets(note)}\n")

    def live(self, key: str, speaker: str, text: str) -> None:
        """Writes what of a stream is new."""
        printed = self._printed.setdefault(key, "")
        if printed.startswith(text):
            return  # shorter, after a restart: it grows again
        if not text.startswith(printed):
            self._write(f"{speaker} (revised): {text}")
        elif self._line == key:
            self._out.write(text[len(printed) :])
            self._out.flush()
        else:
            again = " (goes on)" if printed else ""
            self._write(f"{speaker}{again}: {text[len(printed) :]}")
        self._line = key
        self._printed[key] = text

    def settle(self, key: str, speaker: str, text: str, note: str = "") -> None:
        """Writes the rest of a stream."""
        printed = self._printed.get(key, "")
        if printed and not text.startswith(printed):
            self._write(f"{speaker} (revised): {text}")
            self._line = key
        else:
            self.live(key, speaker, text)
        self._printed.pop(key, None)
        if self._line == key:
            self._line = ""
            self._write(f"{_in_brackets(note)}\n")
        elif note or not printed:
            self._write(f"{speaker}:{_in_brackets(note)}\n")

    def drop(self, key: str) -> None:
        """Says that what was written of a stream does not hold."""
        if self._printed.pop(key, ""):
            self.note("withdrawn: the app was restarted and begins this answer anew")

    def clear(self) -> None:
        """Forgets open streams and status lines."""
        self._write("")
        self._printed, self._status = {}, []

    def note(self, text: str, *, bad: bool = False, whole: bool = False) -> None:
        """Writes a line in brackets; no line is ever cut."""
        self._write(f"[{'! ' if bad else ''}{text}]\n")

    def card(self, title: str, body: str) -> None:
        """Writes a block."""
        self._write(f"{title}\n{body}\n")

    def status(self, lines: list[str]) -> None:
        """Writes the lines that are new."""
        for line in lines:
            if line not in self._status:
                self.note(f"... {line}")
        self._status = lines

    def footer(self, text: str) -> None:
        """Writes it when it changes."""
        if text or self._footer:
            self.note(text or "back again")
        self._footer = text

    def _write(self, text: str) -> None:
        """Writes on a line of its own."""
        if self._line:
            self._out.write("\n")
            self._line = ""
        self._out.write(text)
        self._out.flush()


def _in_brackets(note: str) -> str:
    return f" [{note}]" if note else ""

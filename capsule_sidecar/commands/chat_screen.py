"""Where a terminal chat is shown, and the plain screen for pipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TextIO


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
        """Another session is shown from now on: what may still change in place goes."""

    def note(self, text: str, *, bad: bool = False, whole: bool = False) -> None:
        """Shows a line about the conversation that is not part of it.

        `whole`: it may hold a command, which must not be cut into rows, so that it can be copied.
        """

    def card(self, title: str, body: str) -> None:
        """Shows a block, or a question."""

    def rows(self, rows: Sequence[str]) -> None:
        """Shows rows that belong to what was shown last, each whole: it may hold an address."""

    def step(self, key: str, text: str, *, over: bool, tail: str = "") -> None:
        """Shows a step in its present state. `over`: it stays like this.

        `tail`: what stands behind it and is worth no row of its own when it alone changes.
        """

    def hint(self, key: str, text: str) -> None:
        """Shows what to know while one types, in place of the last under its key. Empty: none.

        Nothing that was not told otherwise: a screen without a place for it shows nothing.
        """

    def status(self, lines: list[str]) -> None:
        """Shows the status lines in place of the last ones."""

    def footer(self, text: str) -> None:
        """Shows what holds now: no connection, app offline. Empty: all is well."""


class PlainScreen:
    """Lines for a pipe or a file. Streamed text is written as it comes, nothing is taken back."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._printed: dict[str, str] = {}
        self._line = ""  # the stream whose line is open at its end
        self._status: list[str] = []
        self._footer = ""
        self._steps: dict[str, str] = {}

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
        """Forgets open streams, steps and status lines."""
        self._write("")
        self._printed, self._status, self._steps = {}, [], {}

    def note(self, text: str, *, bad: bool = False, whole: bool = False) -> None:
        """Writes a line in brackets; no line is ever cut."""
        self._write(f"[{'! ' if bad else ''}{text}]\n")

    def card(self, title: str, body: str) -> None:
        """Writes a block."""
        self._write(f"{title}\n{body}\n" if body else f"{title}\n")

    def rows(self, rows: Sequence[str]) -> None:
        """Writes them further to the right."""
        for row in rows:
            self._write(f"  {row}\n")

    def step(self, key: str, text: str, *, over: bool, tail: str = "") -> None:
        """Writes each state of it once, with the tail that it has then."""
        if self._steps.get(key) != text:
            self._write(f"{text}{tail}\n")
        self._steps[key] = text

    def hint(self, key: str, text: str) -> None:
        """Nothing: what was written cannot be replaced."""

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

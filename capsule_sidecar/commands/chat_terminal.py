"""The screen for a person: a prompt that stays usable while answers stream above it.

What is settled is written into the terminal's scrollback. What may still change - open streams,
status lines, what holds now - is drawn between it and the prompt, and redrawn in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.application.run_in_terminal import in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import get_cwidth
from prompt_toolkit.widgets import TextArea
from rich.console import Console
from rich.text import Text

from capsule_sidecar.commands.chat_complete import ChatCompleter

SPARE_ROWS = 6  # of the terminal, for prompt, status and footer
REDRAW = 0.04  # seconds between two drawings at least
MAX_STATUS = 3  # status lines shown at once
MAX_STEPS = 6  # steps that are not over, shown at once
MAX_MENU = 8  # rows of completions

_LABELS = {"you": "bold cyan"}
_APP_LABEL = "bold green"


def wrap(text: str, width: int, first: int = 0) -> list[str]:
    """Cuts a text into rows of at most `width` cells; joined, they are the text again.

    `first` cells of the first row are taken. A row ends behind a line feed, or behind its last
    space where it is full; spaces at its end count for nothing.
    """
    rows: list[str] = []
    begin = 0
    space = 0  # behind the last space of the row
    cells = first
    for index, char in enumerate(text):
        size = 0 if char == "\n" else (8 if char == "\t" else get_cwidth(char))
        while cells + size > width and index > begin and char != " ":
            end = space if space > begin else index
            rows.append(text[begin:end])
            cells = sum(get_cwidth(other) for other in text[end:index])
            begin = space = end
        cells += size
        if char == "\n":
            rows.append(text[begin : index + 1])
            begin = space = index + 1
            cells = 0
        elif char == " ":
            space = index + 1
    if begin < len(text):
        rows.append(text[begin:])
    return rows


class LiveText:
    """The text of an open stream: how much of it stands in the scrollback already."""

    def __init__(self, speaker: str) -> None:
        self.speaker = speaker
        self.text = ""
        self.written = ""

    @property
    def rest(self) -> str:
        """What is not in the scrollback yet; nothing while the text is shorter than that is."""
        return self.text[len(self.written) :] if self.text.startswith(self.written) else ""

    @property
    def revised(self) -> bool:
        """True where the scrollback shows what is no longer so."""
        return not (self.text.startswith(self.written) or self.written.startswith(self.text))

    @property
    def taken(self) -> int:
        """How many cells of its first row the speaker takes."""
        return 0 if self.written else get_cwidth(self.speaker) + 2

    def overflow(self, width: int, rows: int) -> str:
        """Returns what has to go into the scrollback so that the rest fits into `rows`."""
        lines = wrap(self.rest, width, self.taken)
        return "".join(lines[: len(lines) - rows]) if len(lines) > rows else ""


class TerminalScreen:
    """A `Screen` on a terminal, with the prompt. `run` reads lines until `leave` is called."""

    def __init__(
        self,
        on_begin: Callable[[], None],
        on_line: Callable[[str], None],
        on_interrupt: Callable[[], bool],
        commands: Sequence[str] = (),
    ) -> None:
        """Takes what is told that a line begins, what handles it, and what Ctrl-C does.

        False of the last means that it leaves. `commands` are completed by Tab.
        """
        self._on_begin = on_begin
        self._on_line = on_line
        self._on_interrupt = on_interrupt
        self._live: dict[str, LiveText] = {}
        self._status: list[str] = []
        self._footer = ""
        self._steps: dict[str, str] = {}
        self._hints: dict[str, str] = {}
        self._typing = False  # the line is not empty
        self._waiting: list[Text] = []  # to be written into the scrollback
        output = create_output()
        if isinstance(output, Vt100_Output):
            # The place of the cursor is not needed, and not every terminal answers when asked.
            output.enable_cpr = False
        self._input = TextArea(
            multiline=False,
            prompt="> ",
            wrap_lines=True,
            history=InMemoryHistory(),
            completer=ChatCompleter(commands),
            complete_while_typing=False,
            accept_handler=self._accept,
        )
        self._input.buffer.on_text_changed += self._text_changed
        self._app: Application[None] = Application(
            layout=Layout(
                HSplit(
                    [
                        Window(
                            FormattedTextControl(self._region),
                            dont_extend_height=True,
                            wrap_lines=True,  # long status lines
                        ),
                        self._input,
                        CompletionsMenu(max_height=MAX_MENU),
                    ]
                )
            ),
            key_bindings=self._keys(),
            output=output,
            min_redraw_interval=REDRAW,
            erase_when_done=True,
        )

    async def run(self) -> None:
        """Shows the prompt until `leave`; what waits to be written is written before it returns."""
        await self._app.run_async()
        self._emit()

    def leave(self) -> None:
        """Ends `run`."""
        if self._app.is_running:
            self._app.exit()

    async def flush(self) -> None:
        """Writes what waits into the scrollback and has the rest redrawn."""
        if self._waiting and self._app.is_running:
            async with in_terminal():
                self._emit()
        self._app.invalidate()

    def say(self, speaker: str, text: str, note: str = "") -> None:
        """Writes a complete message."""
        self._waiting.append(_message(speaker, text, note))

    def live(self, key: str, speaker: str, text: str) -> None:
        """Draws a stream; what does not fit above the prompt goes into the scrollback."""
        live = self._live.setdefault(key, LiveText(speaker))
        live.text = text
        if live.revised:
            self.note("revised:")
            live.written = ""
        size = self._app.output.get_size()
        # What stands between the stream and the prompt takes rows, too.
        taken = sum(text.count("\n") + 1 for text in self._hints.values() if text)
        spare = SPARE_ROWS + taken + min(len(self._steps), MAX_STEPS)
        over = live.overflow(size.columns, max(size.rows - spare, 2))
        if over:
            self._write_part(live, over)

    def settle(self, key: str, speaker: str, text: str, note: str = "") -> None:
        """Writes the rest of a stream into the scrollback."""
        live = self._live.pop(key, None)
        if live is None or not live.written:
            self.say(speaker, text, note)
        elif text.startswith(live.written):
            rest = text[len(live.written) :]
            if rest or note:
                self._waiting.append(_noted(Text(rest), note))
        else:
            self.note("revised:")
            self.say(speaker, text, note)

    def drop(self, key: str) -> None:
        """Removes a stream; says so where a part of it cannot be removed."""
        live = self._live.pop(key, None)
        if live is not None and live.written:
            self.note("withdrawn: the app was restarted and begins this answer anew")

    def clear(self) -> None:
        """Removes open streams, steps and status lines."""
        self._live, self._steps, self._status = {}, {}, []

    def note(self, text: str, *, bad: bool = False, whole: bool = False) -> None:
        """Writes a line that is not part of the conversation."""
        self._waiting.append(Text(text, style="red" if bad else "dim", no_wrap=whole or None))

    def card(self, title: str, body: str) -> None:
        """Writes a block."""
        text = Text(title, style="bold magenta")
        self._waiting.append(Text.assemble(text, (f"\n{body}", "magenta")) if body else text)

    def rows(self, rows: Sequence[str]) -> None:
        """Writes them further to the right, for the terminal to wrap."""
        self._waiting += [Text(f"  {row}", style="magenta", no_wrap=True) for row in rows]

    def step(self, key: str, text: str, *, over: bool, tail: str = "") -> None:
        """Draws a step; writes it when it is over."""
        if not over:
            self._steps[key] = text + tail
            return
        self._steps.pop(key, None)
        self._waiting.append(Text(text + tail))

    def hint(self, key: str, text: str) -> None:
        """Draws it above the prompt."""
        self._hints[key] = text
        self._app.invalidate()

    def status(self, lines: list[str]) -> None:
        """Draws the status lines."""
        self._status = lines

    def footer(self, text: str) -> None:
        """Draws what holds now."""
        self._footer = text

    def _write_part(self, live: LiveText, part: str) -> None:
        text = Text(part.removesuffix("\n"))
        self._waiting.append(text if live.written else Text.assemble(_label(live.speaker), text))
        live.written += part

    def _emit(self) -> None:
        """Renders what waits, and writes it at once."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        console = Console(
            file=sys.stdout,
            width=self._app.output.get_size().columns,
            force_terminal=True,
            highlight=False,
        )
        for text in waiting:
            # The terminal's own wrap, unlike a line feed of ours, is not part of what is copied.
            whole = bool(text.no_wrap)
            console.print(text, overflow=None if whole else "fold", soft_wrap=whole)
        sys.stdout.flush()

    def _region(self) -> StyleAndTextTuples:
        """Returns what is drawn above the prompt."""
        parts: StyleAndTextTuples = []
        for live in self._live.values():
            if live.rest:
                if not live.written:
                    parts.append(("bold fg:ansigreen", f"{live.speaker}  "))
                # Cut between words, as it will be in the scrollback.
                for row in wrap(live.rest, self._app.output.get_size().columns, live.taken):
                    parts.append(("", row.rstrip(" \n") + "\n"))
        steps = list(self._steps.values())
        if len(steps) > MAX_STEPS:
            # The first that is not over is what runs.
            steps = [*steps[: MAX_STEPS - 1], f"({len(steps) - MAX_STEPS + 1} more steps)"]
        for step in steps:
            parts.append(("", f"{step}\n"))
        for line in self._status[-MAX_STATUS:]:
            parts.append(("italic fg:ansiyellow", f"... {line}\n"))
        for hint in self._hints.values():
            if hint:
                parts.append(("bold fg:ansiyellow", f"{hint}\n"))
        if self._footer:
            parts.append(("reverse", f" {self._footer} "))
            parts.append(("", "\n"))
        if parts:
            style, text, *_ = parts[-1]
            parts[-1] = (style, text.removesuffix("\n"))
        return parts

    def _text_changed(self, buffer: Buffer) -> None:
        if buffer.text and not self._typing:
            self._on_begin()
        self._typing = bool(buffer.text)

    def _accept(self, buffer: Buffer) -> bool:
        self._on_line(buffer.text)
        self._typing = False  # the buffer is emptied without a word
        return False  # the prompt is empty again

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _(event: KeyPressEvent) -> None:
            if not self._on_interrupt():
                if self._input.text:
                    self._input.text = ""
                else:
                    self.leave()

        @keys.add("c-d")
        def _(event: KeyPressEvent) -> None:
            if not self._input.text:
                self.leave()

        return keys


def _label(speaker: str) -> Text:
    return Text(f"{speaker}  ", style=_LABELS.get(speaker, _APP_LABEL))


def _message(speaker: str, text: str, note: str) -> Text:
    # The label's style must not reach what is appended to it.
    return _noted(Text.assemble(_label(speaker), Text(text)), note)


def _noted(text: Text, note: str) -> Text:
    return Text.assemble(text, (f" [{note}]", "dim")) if note else text

"""What Tab completes in a terminal chat: commands, and the paths of those that take one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

_PATH = re.compile(r"/(?:attach|file)\s+(?:#\d+\s+)?")


class ChatCompleter(Completer):
    """Completes a line's command, or the path behind it."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = sorted(commands)
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yields what may stand at the cursor."""
        text = document.text_before_cursor
        if match := _PATH.match(text):
            path = text[match.end() :]
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)
        elif text.startswith("/") and " " not in text:
            for command in self._commands:
                if command.startswith(text):
                    yield Completion(command, start_position=-len(text))

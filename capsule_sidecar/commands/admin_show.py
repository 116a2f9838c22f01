"""How the operator's commands write what they found: rows for a person, JSON for a program."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capsule_sidecar.commands.chat_words import indented
from capsule_sidecar.commands.output import write
from capsule_sidecar.web.json_form import encode, to_json

# What stands out in a table.
_STYLES = {"failed": "red", "timed_out": "red", "running": "green", "unhandled": "yellow"}


def show_json(document: dict[str, Any]) -> None:
    """Writes one JSON document on one line."""
    write(encode(document) + "\n")


def show_json_list(name: str, entries: Iterable[Message], *, more: bool) -> None:
    """Writes a list as one JSON document: its entries by its name, and whether there are more."""
    show_json({name: [to_json(entry) for entry in entries], "more": more})


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a table whose cells are whole: a terminal wraps lines that are longer than it is."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    wide = Console(width=1 << 14, highlight=False)
    needed = wide.measure(table).maximum
    # Written by us, not by the console: what a file refuses would end the program in its own way.
    text = io.StringIO()
    terminal = True if sys.stdout.isatty() else None  # None: as the environment says
    console = Console(file=text, width=max(needed, 1), highlight=False, force_terminal=terminal)
    console.print(table, soft_wrap=True)
    write(text.getvalue())


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Writes names and values below each other; those without a value are left out."""
    known = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, value in known if "\n" not in value), default=0)
    for name, value in known:
        if "\n" in value:
            show_text(f"{name}:\n{indented(value)}")
        else:
            show_text(f"{name + ':':<{width + 1}} {value}")


def show_text(text: str = "") -> None:
    """Writes a text as it is."""
    write(text + "\n")

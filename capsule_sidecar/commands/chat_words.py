"""Texts of others as a terminal may show them, and figures as people read them."""

from __future__ import annotations

import re

# What a terminal would obey instead of showing: C0 without tab and line feed, DEL, and C1.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"\s+")


def safe(text: str) -> str:
    """Returns a text that a terminal only shows: what would steer it stands as a replacement."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str, most: int = 0) -> str:
    """Returns a text as one row that a terminal only shows, cut to `most` characters if not 0."""
    text = safe(_SPACES.sub(" ", text).strip())
    return text[: most - 1].rstrip() + "…" if 0 < most < len(text) else text


def indented(text: str, by: int = 2) -> str:
    """Returns a text whose rows all begin further to the right."""
    return "\n".join(" " * by + row if row else row for row in text.split("\n"))


def size_words(size: int) -> str:
    """Returns a number of bytes in words."""
    if size < 1024:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"

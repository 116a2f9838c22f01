"""What a file may be called, and what it may say that it is."""

from __future__ import annotations

import re
import unicodedata

DEFAULT_NAME = "file"
DEFAULT_TYPE = "application/octet-stream"
_MAX_BYTES = 255
# RFC 6838 and RFC 9110: type and subtype, without parameters.
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
# Control and format characters (among them those that turn the direction of writing), surrogates,
# what separates lines, and what is no character.
_DROPPED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Cn"))
# Joiners are format characters that emoji and many scripts are written with.
_KEPT = "\u200c\u200d"


def clean_name(name: str) -> str:
    """Return a name that is a name: no directory, nothing invisible, at most 255 bytes of UTF-8.

    Of a name that is too long the extension stays.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c in _KEPT or unicodedata.category(c) not in _DROPPED)
    name = unicodedata.normalize("NFC", name).strip(" .\u00a0") if name.strip(".") else ""
    if not name.strip(" .\u00a0" + _KEPT):
        return DEFAULT_NAME
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = (dot + extension).encode() if stem else b""
    if len(tail) > 32:
        stem, tail = name, b""
    cut = stem.encode()[: _MAX_BYTES - len(tail)].decode(errors="ignore").rstrip(" .")
    return cut + tail.decode()


def clean_media_type(text: str) -> str:
    """Return a media type without parameters, in lower case; octet-stream for what is none."""
    found = text.partition(";")[0].strip().lower()
    return found if _MEDIA_TYPE.fullmatch(found) else DEFAULT_TYPE

"""What a file may be called, and what it may say that it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_NAME = "file"
DEFAULT_TYPE = "application/octet-stream"
_MAX_BYTES = 255
# RFC 6838 and RFC 9110: type and subtype, without parameters.
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
# What a name's end tells where nothing else does, as of text formats that browsers do not know.
# Only types that are downloaded: a name never lets a browser show what came without a type.
_BY_EXTENSION: Mapping[str, str] = MappingProxyType(
    {
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "epub": "application/epub+zip",
        "gz": "application/gzip",
        "htm": "text/html",
        "html": "text/html",
        "ics": "text/calendar",
        "ipynb": "application/x-ipynb+json",
        "json": "application/json",
        "jsonl": "application/jsonl",
        "markdown": "text/markdown",
        "md": "text/markdown",
        "odp": "application/vnd.oasis.opendocument.presentation",
        "ods": "application/vnd.oasis.opendocument.spreadsheet",
        "odt": "application/vnd.oasis.opendocument.text",
        "pdf": "application/pdf",
        "ppt": "application/vnd.ms-powerpoint",
        "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "py": "text/x-python",
        "rst": "text/x-rst",
        "rtf": "application/rtf",
        "sql": "application/sql",
        "tar": "application/x-tar",
        "toml": "application/toml",
        "tsv": "text/tab-separated-values",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xml": "text/xml",
        "yaml": "application/yaml",
        "yml": "application/yaml",
        "zip": "application/zip",
    }
)
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


def media_type_of(name: str, told: str) -> str:
    """Return a file's media type: the one that was told, else what its name's end tells.

    Args:
        name: The name, cleaned.
        told: A media type, octet-stream or nothing.
    """
    found = clean_media_type(told)
    return type_by_name(name) if found == DEFAULT_TYPE else found


def type_by_name(name: str) -> str:
    """Return what a name's end tells, which is the same on every machine; else octet-stream."""
    stem, _, extension = name.rpartition(".")
    return _BY_EXTENSION.get(extension.lower(), DEFAULT_TYPE) if stem else DEFAULT_TYPE

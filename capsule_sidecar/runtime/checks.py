"""What is taken of texts, titles, payloads and pages, whoever sends them."""

from __future__ import annotations

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument, LimitExceeded
from capsule_sidecar.storage import values


def check_text(text: str, maximum: int) -> None:
    """Check a message's text.

    Raises:
        InvalidArgument: It is empty.
        LimitExceeded: It is too long.
    """
    if not text:
        raise InvalidArgument("text", "must not be empty")
    if len(text) > maximum or (not text.isascii() and len(text.encode()) > maximum):
        raise LimitExceeded("text", maximum, f"a message's text has at most {maximum} bytes")


def check_title(title: str, maximum: int) -> None:
    """Check a session's title.

    Raises:
        InvalidArgument: It has line breaks or is too long.
    """
    if len(title) > maximum:
        raise InvalidArgument("title", f"has at most {maximum} characters")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in title):
        raise InvalidArgument("title", "must not have line breaks or control characters")


def check_object(data: bytes, field: str, maximum: int, limit: str) -> bytes:
    """Return a JSON object, `{}` for nothing.

    Raises:
        InvalidArgument: It is not a JSON object.
        LimitExceeded: It is too large.
    """
    if len(data) > maximum:
        raise LimitExceeded(limit, maximum, f"{field} has at most {maximum} bytes")
    if not data.strip():
        return b"{}"
    values.check_json(data, field)
    if not data.lstrip().startswith(b"{"):
        raise InvalidArgument(field, "must be a JSON object")
    return data


def page_size(asked: int, limits: Limits) -> int:
    """Return the size of a page: the default for 0, never above the maximum.

    Raises:
        InvalidArgument: It is negative.
    """
    if asked < 0:
        raise InvalidArgument("page_size", "must not be negative")
    return min(asked or limits.page_size, limits.max_page_size)


def check_length(limit: str, text: str, maximum: int) -> None:
    """Check how many characters a text has.

    Raises:
        LimitExceeded: It has too many.
    """
    if len(text) > maximum:
        raise LimitExceeded(limit, maximum, f"{limit} has at most {maximum} characters")

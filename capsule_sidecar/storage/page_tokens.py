"""Page tokens: the place where a page ended, as who asks for the next one passes it on."""

from __future__ import annotations

import base64
import json

from capsule_sidecar.model.errors import InvalidArgument


def page_token(*parts: int | str) -> str:
    """Return an opaque token for the place where a page ended; the first part names the list."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def parse_page_token(token: str, name: str, length: int) -> tuple[int, ...] | None:
    """Return the numbers of a token of the list so named; None for an empty one.

    Raises:
        InvalidArgument: It is none of ours.
    """
    if not token:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, RecursionError):
        parts = None
    if (
        not isinstance(parts, list)
        or len(parts) != length + 1
        or parts[0] != name
        or not all(type(part) is int and 0 <= part < 1 << 63 for part in parts[1:])
    ):
        raise InvalidArgument("page_token", "is not a token of this list")
    return tuple(parts[1:])

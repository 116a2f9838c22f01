"""Identifiers: time-ordered, unguessable, and the UUIDs that requests carry."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
import uuid

from capsule_sidecar.model.errors import InvalidArgument

# Crockford's alphabet without look-alikes, lower case: sorts like the number it writes.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Each random byte gives one of 32 characters; 256 is a multiple of 32, so none is likelier.
_RANDOM = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
# Without dashes, in braces, as a URN: uuid.UUID alone would take signs, underscores and dashes
# wherever they stand.
_OTHER_FORMS = re.compile(
    r"(?:urn:uuid:)?\{?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?",
    re.IGNORECASE,
)


# Ids that one draw from the system's randomness is for.
_DRAWN = 256


class _Randomness:
    """The random ends of ids, drawn many at a time; used from any thread.

    A draw is a system call that lets go of the interpreter: with one for each command of a batch,
    the writer's thread began a group for the first of them alone and both fought for the rest.
    """

    def __init__(self) -> None:
        # Each is taken by one `pop`, which no other thread can come between.
        self._left: list[str] = []

    def take(self) -> str:
        """Return 16 characters, 80 random bits, that were never returned before."""
        try:
            return self._left.pop()
        except IndexError:
            drawn = os.urandom(16 * _DRAWN).translate(_RANDOM).decode()
            parts = [drawn[at : at + 16] for at in range(0, len(drawn), 16)]
            last = parts.pop()
            self._left.extend(parts)
            return last

    def forget(self) -> None:
        """Draw anew: a process that was forked shares what is left with the one that forked it."""
        self._left.clear()


# The one for all: nothing that it does can be told from drawing anew each time.
_randomness = _Randomness()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_randomness.forget)


@functools.lru_cache(maxsize=4)
def _time_part(milliseconds: int) -> str:
    digits = []
    for _ in range(10):
        digits.append(_ALPHABET[milliseconds & 31])
        milliseconds >>= 5
    return "".join(reversed(digits))


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters: 50 bits of milliseconds, then 80 random bits.

    Ids made later sort later (to the millisecond); 80 bits from the system's source of randomness
    leave nothing to guess. The form is the ULID's.
    """
    time_part = _time_part(time.time_ns() // 1_000_000)
    return f"{prefix}_{time_part}{_randomness.take()}"


def parse_request_id(text: str, field: str = "request_id") -> bytes:
    """Return the 16 bytes of a UUID.

    Args:
        text: The UUID in any of its usual forms.
        field: The request's field, for the error.

    Raises:
        InvalidArgument: It is empty or not a UUID.
    """
    try:
        # The common form, at a third of the cost of uuid.UUID; fromhex passes over white space, so
        # 16 bytes of the 32 other characters mean that each of them is a digit.
        if len(text) == 36 and text[8:24:5] == "----":
            data = bytes.fromhex(text.replace("-", ""))
            if len(data) == 16:
                return data
        if not _OTHER_FORMS.fullmatch(text):
            raise ValueError(text)
        return uuid.UUID(text).bytes
    except ValueError:
        raise InvalidArgument(field, "must be a UUID" if text else "is required (a UUID)") from None


def digest(*parts: str | bytes) -> bytes:
    """Return 16 bytes that stand for the parts and their lengths: no two lists collide."""
    data = [part.encode() if isinstance(part, str) else part for part in parts]
    lengths = b"".join([len(part).to_bytes(4) for part in data])
    return hashlib.blake2b(lengths + b"".join(data), digest_size=16).digest()

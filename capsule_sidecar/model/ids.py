"""Identifiers: time-ordered, unguessable, and the UUIDs that requests carry."""

from __future__ import annotations

import hashlib
import os
import time
import uuid

from capsule_sidecar.model.errors import InvalidArgument

# Crockford's alphabet without look-alikes, lower case: sorts like the number it writes.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters: 48 bits of milliseconds, then 82 random bits.

    Ids made later sort later (to the millisecond); 82 bits from the system's source of randomness
    leave nothing to guess. The form is the ULID's with two more random bits.
    """
    number = (time.time_ns() // 1_000_000) << 82 | int.from_bytes(os.urandom(11)) >> 6
    digits = []
    for _ in range(26):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{prefix}_{''.join(reversed(digits))}"


def parse_request_id(text: str, field: str = "request_id") -> bytes:
    """Return the 16 bytes of a UUID.

    Args:
        text: The UUID in any of its usual forms.
        field: The request's field, for the error.

    Raises:
        InvalidArgument: It is empty or not a UUID.
    """
    try:
        if len(text) == 36:  # the common form, at a third of the cost of uuid.UUID
            data = bytes.fromhex(text.replace("-", ""))
            if len(data) == 16:
                return data
        return uuid.UUID(text).bytes
    except ValueError:
        raise InvalidArgument(field, "must be a UUID" if text else "is required (a UUID)") from None


def digest(*parts: str | bytes) -> bytes:
    """Return 16 bytes that stand for the parts and their lengths: no two lists collide."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(4))
        hashed.update(data)
    return hashed.digest()

"""Request ids: version 7 UUIDs, made by the thousand."""

from __future__ import annotations

import os
import time

_DIGITS = 20  # hexadecimal digits of randomness drawn for one id
_BLOCK = 200 * _DIGITS


class RequestIds:
    """Makes UUIDs of version 7: their beginning is the time, the rest is random.

    Randomness is drawn from the system in blocks, since one draw costs more than one id.
    """

    __slots__ = ("_at", "_milliseconds", "_prefix", "_random")

    def __init__(self) -> None:
        self._random = ""
        self._at = 0
        self._milliseconds = -1
        self._prefix = ""

    def __call__(self) -> str:
        """Returns a new id in the usual form with hyphens."""
        now = time.time_ns() // 1_000_000
        if now != self._milliseconds:
            self._milliseconds = now
            digits = f"{now:012x}"
            self._prefix = f"{digits[:8]}-{digits[8:]}-7"
        at = self._at
        if at == len(self._random):
            self._random = os.urandom(_BLOCK // 2).hex()
            at = 0
        self._at = at + _DIGITS
        rest = self._random[at : at + _DIGITS]
        variant = "89ab"[int(rest[3], 16) & 3]
        return f"{self._prefix}{rest[:3]}-{variant}{rest[4:7]}-{rest[7:19]}"

"""How long, as the author of a handler writes it: one set of forms, wherever a time is given."""

from __future__ import annotations

import math
import re
from datetime import timedelta

_PARTS = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,8})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,11})s)?")
_FORM = 'seconds, a timedelta or a string as "90s", "10m", "1h30m" or "2d"'


def duration_of(value: str | float | timedelta, what: str) -> timedelta:
    """Returns a time given as seconds, a timedelta, or `"90s"`, `"10m"`, `"1h30m"`, `"2d"`.

    It may be negative: what its bounds are, is the caller's.

    Args:
        value: The time.
        what: The parameter that it was given for.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a string of another form, and for what is not finite.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        parts = _PARTS.fullmatch(value)
        if parts is None or not value:
            raise ValueError(f"{what} is {_FORM}, not {value!r}")
        days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is {_FORM}, not a {type(value).__qualname__}")
    try:
        if math.isnan(value):
            raise OverflowError
        return timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"{what} is a finite time, not {value!r}") from None

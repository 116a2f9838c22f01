"""JSON without surprises: what json.dumps would quietly turn into something else is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# Characters of a number that the sidecar takes at most, and what a longer integer looks like; text
# between quotes may look so too.
_MAX_NUMBER = 400
_LONG = re.compile(rb"\d{%d}" % _MAX_NUMBER)
_SCALARS = frozenset((str, int, bool, type(None)))
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def check(value: object, where: str) -> None:
    """Sees to it that `value` is JSON through and through.

    Raises TypeError, naming `where` and the inner place, for anything that would not come back
    as it is: NaN and infinity, keys that are not strings, tuples, sets, bytes, enums, objects.
    """
    try:
        _check(value, where)
    except RecursionError:
        raise TypeError(f"{where} is circular or nested too deeply to be JSON") from None


def _check(value: object, where: str) -> None:
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is float:
        if math.isfinite(value):  # type: ignore[arg-type]  # its type was looked at just now
            return
        raise TypeError(f"{where} is {value}, which is not JSON")
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}; JSON keys are strings")
            if type(item) not in _SCALARS:
                _check(item, f"{where}[{key!r}]")
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            if type(item) not in _SCALARS:
                _check(item, f"{where}[{index}]")
        return
    hint = "; use a list" if isinstance(value, tuple | set | frozenset) else ""
    raise TypeError(f"{where} is a {kind.__qualname__}, which is not JSON{hint}")


def encode(value: object, where: str) -> bytes:
    """Returns `value` as UTF-8 JSON; raises TypeError as `check` does."""
    check(value, where)
    try:
        return _dumps(value).encode()
    except ValueError as error:  # a lone surrogate, or an integer beyond Python's own limit
        raise TypeError(f"{where} is not JSON: {error}") from None


def check_numbers(data: bytes, where: str) -> None:
    """Raises TypeError, naming `where`, for a longer integer than the sidecar takes."""

    def keep(number: str) -> str:
        if len(number) > _MAX_NUMBER:
            raise TypeError(
                f"{where} has the number {number[:20]}..., and a number has at most "
                f"{_MAX_NUMBER} characters as JSON"
            )
        return number

    if len(data) > _MAX_NUMBER and _LONG.search(data):
        json.loads(data, parse_int=keep)


def decode(data: bytes) -> Any:
    """Returns the value of UTF-8 JSON that the sidecar sent; empty means null."""
    return json.loads(data) if data else None

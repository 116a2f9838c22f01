"""Arguments of data and endpoint handlers: texts of a request, converted by annotations."""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NONE = type(None)
_MAX_NAME = 100  # characters of a name that is told back


class BadRequest(ValueError):
    """What the caller gave does not fit, an argument or the body: answered by 400, naming it."""

    def __init__(self, field: str, why: str) -> None:
        field = field[:_MAX_NAME]
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


def known(hint: Any) -> bool:
    """Returns whether a text can be converted to what an annotation says."""
    if hint is Any or hint in (str, bool, _NONE) or hint in _PARSERS:
        return True
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return all(map(known, parts))
    if origin is typing.Literal:
        return all(isinstance(option, str | int) for option in parts)
    return origin in (list, Sequence) and len(parts) == 1 and known(parts[0]) and not many(parts[0])


def many(hint: Any) -> bool:
    """Returns whether an annotation takes a name that is given several times."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(many, typing.get_args(hint)))
    return typing.get_origin(hint) in (list, Sequence)


def convert(name: str, texts: Sequence[str], hint: Any) -> Any:
    """Returns what an annotation makes of the texts that were given under a name.

    Raises BadRequest for what does not fit.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, Sequence):
        return [_one(name, text, parts[0]) for text in texts]
    if many(hint):
        return convert(name, texts, next(filter(many, parts)))
    if len(texts) > 1:
        raise BadRequest(name, "is given more than once")
    return _one(name, texts[0], hint)


def _one(name: str, text: str, hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(name, text, parts)
    if origin is typing.Literal:
        return _option(name, text, parts)
    if hint in (str, Any):
        return text
    if hint is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise BadRequest(name, "must be true or false")
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if text == str(member.value):
                return member
        raise BadRequest(name, f"must be one of {', '.join(str(m.value) for m in hint)}")
    parse, what = _PARSERS[hint]
    try:
        return parse(text)
    except (ValueError, ArithmeticError):
        raise BadRequest(name, f"must be {what}") from None


def _option(name: str, text: str, options: tuple[Any, ...]) -> Any:
    shown = [str(each).lower() if isinstance(each, bool) else str(each) for each in options]
    if text not in shown:
        raise BadRequest(name, f"must be one of {', '.join(shown)}")
    return options[shown.index(text)]


def _first_fitting(name: str, text: str, parts: tuple[Any, ...]) -> Any:
    fault: BadRequest | None = None
    # A string fits everything, so it is tried last.
    for part in sorted(parts, key=lambda part: part in (str, Any)):
        if part is _NONE:
            continue
        try:
            return _one(name, text, part)
        except BadRequest as error:
            fault = fault or error
    raise fault or BadRequest(name, "takes nothing")


# Python reads more than people mean by a number: digits of other scripts, underscores, infinity.
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _decimal(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError(text)
    return UUID(text)


_PARSERS: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    int: (_whole, "a whole number"),
    float: (_float, "a finite number"),
    Decimal: (_decimal, "a decimal number"),
    UUID: (_uuid, "a UUID"),
    datetime: (datetime.fromisoformat, "a time as 2026-01-31T12:00:00Z"),
    date: (date.fromisoformat, "a date as 2026-01-31"),
}

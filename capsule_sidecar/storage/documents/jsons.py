"""JSON as it was written: numbers keep their text, objects the order of their keys.

Python's own reader would turn 1e2 into 100.0 and refuses integers of more than 4,300 digits; here
a number is its text, and its value a decimal one, so that no integer of any size loses a digit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Context, Decimal
from json.encoder import encode_basestring
from typing import NoReturn

from capsule_sidecar.model.errors import InvalidArgument

# Levels of objects and arrays in a document or a value that can be looked into.
MAX_DEPTH = 100
# Characters of a number: what adds to it stays cheap, and every language reads it (Python's own
# reader refuses integers of more than 4,300 digits, and with one of them all that is beside it).
MAX_NUMBER = 400


class Number:
    """A JSON number: equal to another by its value, and written as it was read.

    Args:
        text: As RFC 8259 has it.
    """

    __slots__ = ("text", "value")

    def __init__(self, text: str) -> None:
        self.text = text
        self.value = Decimal(text)

    @property
    def whole(self) -> bool:
        """Whether it was written as an integer."""
        return not any(mark in self.text for mark in ".eE")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Number({self.text!r})"


Json = None | bool | str | Number | list["Json"] | dict[str, "Json"]


class _Refused(ValueError):
    """What Python's reader takes and this does not."""


class SumRefused(ValueError):
    """Two numbers have no sum that can be kept; says why."""


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER:
        raise _Refused(f"{text[:20]}... is too long: a number has at most {MAX_NUMBER} characters")


def _integer(text: str) -> Number:
    _check_length(text)
    return Number(text)


def _fraction(text: str) -> Number:
    _check_length(text)
    return _number(text)


def _number(text: str) -> Number:
    approximate = float(text)
    zero = not any(digit in "123456789" for digit in text.lower().partition("e")[0])
    if math.isinf(approximate) or (approximate == 0) != zero:
        raise _Refused(f"{text[:40]} is beyond 64-bit floating point")
    return Number(text)


# Made once: it takes as long as reading a filter does.
_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer, parse_float=_fraction)
# What was stored before numbers had a bound is still read.
_STORED = json.JSONDecoder(parse_constant=_no_constant, parse_int=Number, parse_float=_number)


def parse(data: bytes, field: str, *, stored: bool = False) -> Json:
    """Read a UTF-8 JSON value.

    Args:
        data: The bytes.
        field: The request's field, for the error.
        stored: They were taken once: numbers may be longer than is taken now.

    Raises:
        InvalidArgument: They are not JSON, or are nested more than 100 deep; a number has more than
            400 characters, or is beyond what 64-bit floating point holds and no integer; a text
            holds half a surrogate pair.
    """
    try:
        value: Json = (_STORED if stored else _DECODER).decode(data.decode())
        if b"\\u" in data:
            dump(value).encode()
    except _Refused as error:
        raise InvalidArgument(field, str(error)) from None
    except UnicodeDecodeError:
        raise InvalidArgument(field, "is not UTF-8") from None
    except UnicodeEncodeError:
        raise InvalidArgument(field, "holds half of a surrogate pair") from None
    except RecursionError:
        raise InvalidArgument(field, "is nested too deeply") from None
    except ValueError as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if depth_exceeds(value, MAX_DEPTH):
        raise InvalidArgument(field, f"is nested more than {MAX_DEPTH} deep")
    return value


def depth_exceeds(value: Json, maximum: int) -> bool:
    """Tell whether objects and arrays are nested deeper than that."""
    level = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > maximum:
            return True
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container or ())
            if isinstance(child, dict | list)
        ]
    return False


def parse_object(data: bytes, field: str, *, stored: bool = False) -> dict[str, Json]:
    """Read a UTF-8 JSON object.

    Raises:
        InvalidArgument: As `parse`, or it is no object.
    """
    value = parse(data, field, stored=stored)
    if not isinstance(value, dict):
        raise InvalidArgument(field, "must be a JSON object")
    return value


def dump(value: Json) -> str:
    """Return a value's JSON, without white space."""
    return "".join(_pieces(value))


def _pieces(value: Json) -> Iterator[str]:
    match value:
        case str():
            yield encode_basestring(value)
        case Number():
            yield value.text
        case None:
            yield "null"
        case bool():
            yield "true" if value else "false"
        case list():
            mark = "["
            for element in value:
                yield mark
                yield from _pieces(element)
                mark = ","
            yield "]" if value else "[]"
        case dict():
            mark = "{"
            for name, member in value.items():
                yield f"{mark}{encode_basestring(name)}:"
                yield from _pieces(member)
                mark = ","
            yield "}" if value else "{}"


def plus(left: Number, right: Number) -> Number:
    """Return the sum: exact for integers, of 64-bit floating point else.

    Raises:
        SumRefused: It is beyond what 64-bit floating point holds, or an integer of more than 400
            characters.
    """
    if left.whole and right.whole:
        digits = max(len(left.text), len(right.text)) + 1
        total = Context(prec=digits).add(left.value, right.value)
        # Minus zero is not the sum of integers.
        text = f"{total:f}" if total else "0"
        if len(text) > MAX_NUMBER:
            raise SumRefused(f"the sum has more than {MAX_NUMBER} characters")
        return Number(text)
    try:
        result = float(left.text) + float(right.text)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise SumRefused("the sum is beyond 64-bit floating point")
    return Number(repr(result))

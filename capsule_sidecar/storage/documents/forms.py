"""How values compare: each has a form whose plain order of code points is MongoDB's order.

A document is kept twice: as it was written, and as its *form*, which queries look into. In a form
objects and arrays stay what they are and every other value is a text: a digit for its type in
MongoDB's order of types, then

- nothing for null ("1");
- a number's sign, the exponent of its first digit and its digits without zeros at the end, all
  complemented where it is negative ("2"): equal numbers have the same text, however they were
  written, and integers of any size keep every digit. Neither SQLite's JSON, whose integers end at
  64 bits, nor a driver's floats ever see a number;
- a string's own characters ("3"), with the first six code points written as two, because neither
  database's JSON holds a NUL; the codes keep their order and none is part of another's;
- 0 or 1 for false and true ("6").

Both databases compare such texts by code point, so a comparison within a type is a range of texts,
and the two can differ in nothing. Names are in code point order (equality of objects knows no
order of keys), and what JSON would write with a backslash is written with a percent sign, so that
a name can stand in a path of SQLite's.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal

from capsule_sidecar.storage.documents.jsons import Json, Number

NULL, NUMBER, STRING, OBJECT, ARRAY, BOOLEAN = "123456"
# What an empty array sorts as: before null.
EMPTY = "0"
# How much of a key sorts, and is kept in an index: a row of PostgreSQL's has 2,704 bytes.
KEY_CHARS = 400

_COMPLEMENT = str.maketrans("0123456789", "9876543210")
# Room for the exponents of floating point below zero; above, for a million digits and more.
_BIAS = 1_000
_EXPONENT_DIGITS = 8
_CODES = {
    code: lead + trail
    for code, (lead, trail) in enumerate(
        (lead, trail) for lead in "\x01\x02" for trail in "\x03\x04\x05"
    )
}
_PLAIN = {text: chr(code) for code, text in _CODES.items()}
_NAME_CODES = {code: f"%{code:02x}" for code in (*range(0x20), *b'"\\%', 0x7F)}

Form = str | list["Form"] | dict[str, "Form"]


def number_key(value: Decimal) -> str:
    """Return a number's key."""
    sign, digits, _ = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return f"{NUMBER}5"
    exponent = value.adjusted() + _BIAS
    body = f"{exponent:0{_EXPONENT_DIGITS}d}{text.rstrip('0')}"
    # A negative number's shorter digits are the greater: what follows must sort behind digits.
    return f"{NUMBER}1{body.translate(_COMPLEMENT)}:" if sign else f"{NUMBER}9{body}"


def string_key(text: str) -> str:
    """Return a string's key."""
    return STRING + escape(text)


def escape(text: str) -> str:
    """Return a string's characters as keys have them."""
    return text if text.isprintable() else text.translate(_CODES)


def name(text: str) -> str:
    """Return a member's name as forms have it."""
    return text.translate(_NAME_CODES) if text else "%"


def form(value: Json) -> Form:
    """Return a value's form."""
    match value:
        case str():
            return string_key(value)
        case Number():
            return number_key(value.value)
        case None:
            return NULL
        case bool():
            return BOOLEAN + "01"[value]
        case list():
            return [form(element) for element in value]
        case dict():
            return {name(key): form(member) for key, member in value.items()}


def render(value: Form) -> str:
    """Return a form as JSON: one text for equal values."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def index_key(value: Form) -> str:
    """Return what an index keeps of a form: the beginning of a long text, a container's digest."""
    if isinstance(value, str):
        return value[:KEY_CHARS]
    tag = ARRAY if isinstance(value, list) else OBJECT
    return tag + hashlib.sha256(render(value).encode()).hexdigest()[:32]


def order(value: Form) -> str:
    """Return what a form sorts by; containers of one type by their rendering."""
    if isinstance(value, str):
        return value
    return (ARRAY if isinstance(value, list) else OBJECT) + render(value)


def after(prefix: str) -> str:
    """Return the least text that is greater than all that begin with the prefix."""
    while prefix and prefix[-1] == "\U0010ffff":
        prefix = prefix[:-1]
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if code == 0xD800 else code)


def value_of(found: Form) -> Json:
    """Return the value of a form: numbers without exponent where they are integers."""
    if isinstance(found, list):
        return [value_of(element) for element in found]
    if isinstance(found, dict):
        return {_plain_name(key): value_of(member) for key, member in found.items()}
    tag, rest = found[0], found[1:]
    if tag == NUMBER:
        return _number(rest)
    if tag == STRING:
        return _plain(rest)
    return None if tag == NULL else rest == "1"


def _number(rest: str) -> Number:
    if rest == "5":
        return Number("0")
    sign = "" if rest[0] == "9" else "-"
    body = rest[1:] if not sign else rest[1:-1].translate(_COMPLEMENT)
    exponent = int(body[:_EXPONENT_DIGITS]) - _BIAS
    digits = body[_EXPONENT_DIGITS:]
    if exponent >= len(digits) - 1:
        return Number(sign + digits + "0" * (exponent + 1 - len(digits)))
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    if exponent > -7:
        return Number(f"{Decimal(f'{sign}{digits[0]}{fraction}e{exponent}'):f}")
    return Number(f"{sign}{digits[0]}{fraction}e{exponent}")


def _plain(text: str) -> str:
    for code, plain in _PLAIN.items():
        text = text.replace(code, plain) if code[0] in text else text
    return text


def _plain_name(text: str) -> str:
    head, *rest = text.split("%")
    if not head and rest == [""]:
        return ""
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)

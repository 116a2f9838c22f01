"""The JSON form of the protocol's messages: proto3 JSON with the fields' own names.

`..._json` bytes are shown inline under the name without `_json`, so that there is one schema and
no JSON within JSON. 64-bit integers are strings, as in all proto3 JSON: JavaScript's numbers would
not hold them.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from capsule_sidecar.model.errors import InvalidArgument

_INLINE = "_json"
_M = TypeVar("_M", bound=Message)
_Show = Callable[[Any], Any]

_encode_text = json.JSONEncoder(ensure_ascii=False).encode
# Stands for inline JSON while what it lies in is encoded. Nobody can know and send it.
_MARK = f"inline {secrets.token_hex(16)}"


class Inline:
    """JSON that is shown as it was given: numbers of any length and depth stay what they are."""

    __slots__ = ("text",)

    def __init__(self, data: bytes) -> None:
        # Line breaks between its tokens would end a line of an event stream; within strings there
        # are none.
        text = data.decode().strip()
        self.text = text.replace("\n", " ").replace("\r", " ") if text else "null"


def encode(value: Any) -> str:
    """Return the JSON text of a value, which may hold `Inline`, on one line.

    Raises:
        ValueError: It holds NaN or an infinity.
    """
    if type(value) is str:
        return _encode_text(value)
    return _encode(value, ensure_ascii=False)


def encode_bytes(value: Any) -> bytes:
    """Return the JSON text of a value in UTF-8; half a surrogate pair is escaped."""
    try:
        return encode(value).encode()
    except UnicodeEncodeError:
        return _encode(value, ensure_ascii=True).encode()


def _encode(value: Any, *, ensure_ascii: bool) -> str:
    inlined: list[str] = []

    def mark(item: object) -> str:
        if not isinstance(item, Inline):
            raise TypeError(f"{type(item).__name__} is no JSON")
        inlined.append(item.text)
        return _MARK

    text = json.JSONEncoder(
        ensure_ascii=ensure_ascii, separators=(",", ":"), allow_nan=False, default=mark
    ).encode(value)
    if not inlined:
        return text
    first, *rest = text.split(f'"{_MARK}"')
    return first + "".join([f"{item}{part}" for item, part in zip(inlined, rest, strict=True)])


def shown_name(field: FieldDescriptor) -> str:
    """Return the name of a field in the JSON form."""
    return str(field.name.removesuffix(_INLINE)) if is_inline(field) else str(field.name)


def is_inline(field: FieldDescriptor) -> bool:
    """Whether a field holds JSON, or a map to JSON, that is shown as it is."""
    if not field.name.endswith(_INLINE):
        return False
    holder = value_field(field) if is_map(field) else field
    return bool(holder.type == FieldDescriptor.TYPE_BYTES)


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def value_field(field: FieldDescriptor) -> FieldDescriptor:
    """Return what a map leads to."""
    kind = field.message_type
    assert kind is not None
    return kind.fields_by_name["value"]


def to_json(message: Message) -> dict[str, Any]:
    """Return what a message looks like; fields that have their defaults are left out."""
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        known = _SHOWN.get(field)
        if known is None:
            known = _SHOWN[field] = (shown_name(field), _show(field))
        shown[known[0]] = known[1](value)
    return shown


# How a field is shown: made on first sight; there are as many as the protocol has fields.
_SHOWN: dict[FieldDescriptor, tuple[str, _Show]] = {}


def _show(field: FieldDescriptor) -> _Show:
    if is_map(field):
        inner = _show_one(value_field(field), inline=is_inline(field))
        return lambda entries: {str(key): inner(value) for key, value in entries.items()}
    one = _show_one(field, inline=is_inline(field))
    if field.is_repeated:
        return lambda values: [one(value) for value in values]
    return one


def _show_one(field: FieldDescriptor, *, inline: bool) -> _Show:
    if inline:
        return Inline
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE:
            if field.message_type is Timestamp.DESCRIPTOR:
                return lambda value: value.ToJsonString()
            return to_json
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            names = {number: name.name for number, name in field.enum_type.values_by_number.items()}
            return lambda value: names.get(value, value)
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT64:
            return str
        case FieldDescriptor.TYPE_BYTES:
            return lambda value: base64.b64encode(value).decode()
        case _:
            return lambda value: value


def from_json(
    kind: type[_M],
    body: Mapping[str, Any],
    *,
    omit: Collection[str] = (),
    required: Collection[str] = (),
) -> _M:
    """Return the message that a request's body is.

    Args:
        kind: The message.
        body: What was sent.
        omit: Fields that a body does not carry.
        required: Fields that it must.

    Raises:
        InvalidArgument: A field is missing, unknown, null, of another type, or one of which only
            one can be given is the second; it is named.
    """
    fields = {shown_name(field): field for field in _fields(kind, omit)}
    given: dict[str, Any] = {}
    inline: dict[str, bytes] = {}
    for name, value in body.items():
        field = fields.get(name)
        if field is None:
            raise InvalidArgument(name[:64], "there is no such field")
        if is_inline(field):
            inline[field.name] = _inlined(name, value)
        elif value is None:
            raise InvalidArgument(name, "must not be null; leave it out instead")
        else:
            given[field.name] = value
    for name in required:
        if name not in body:
            raise InvalidArgument(name, "is required")
    message = kind()
    chosen: set[str] = set()
    for name, value in given.items():
        group = fields[name].containing_oneof
        if group is not None and len(group.fields) > 1:
            # Fields are parsed one by one, so that a wrong one is named: nobody else would notice.
            if group.name in chosen:
                raise InvalidArgument(name, f"only one can be given of {_names(group)}")
            chosen.add(group.name)
        try:
            json_format.ParseDict({name: value}, message)
        except (json_format.ParseError, ValueError, TypeError) as error:
            raise InvalidArgument(name, f"must be {_wanted(fields[name])}") from error
    for name, data in inline.items():
        setattr(message, name, data)
    return message


def _fields(kind: type[Message], omit: Collection[str]) -> list[FieldDescriptor]:
    fields = cast(Descriptor, kind.DESCRIPTOR).fields
    return [field for field in fields if field.name not in omit]


def _names(group: OneofDescriptor) -> str:
    return ", ".join(field.name for field in group.fields)


def _inlined(name: str, value: Any) -> bytes:
    try:
        return encode(value).encode()
    except (ValueError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidArgument(name, "is not JSON that can be kept: NaN, infinity or half a"
                              " surrogate pair are not") from error  # fmt: skip


def _wanted(field: FieldDescriptor) -> str:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return "a list of strings" if field.is_repeated else "a string of whole characters"
        case FieldDescriptor.TYPE_BOOL:
            return "true or false"
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_INT64:
            return "an integer within its range"
        case _:
            return "of another form"

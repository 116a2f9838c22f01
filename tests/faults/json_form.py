"""Reads the JSON form of the protocol's messages strictly, by google.protobuf's own reader."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_M = TypeVar("_M", bound=Message)


def parsed(kind: type[_M], shown: Mapping[str, Any]) -> _M:
    """Returns the message that was shown; an unknown field is an error.

    Bytes `..._json` are shown inline, under a name without `_json`; proto3 JSON has them in base64.
    """
    descriptor: Any = kind.DESCRIPTOR
    return json_format.ParseDict(_restored(descriptor, shown), kind())


def _restored(descriptor: Descriptor, shown: Mapping[str, Any]) -> dict[str, Any]:
    restored: dict[str, Any] = {}
    for name, value in shown.items():
        field = descriptor.fields_by_name.get(f"{name}_json")
        if field is not None and field.type == FieldDescriptor.TYPE_BYTES:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            restored[field.name] = base64.b64encode(text.encode()).decode()
            continue
        field = descriptor.fields_by_name.get(name)
        inner = field.message_type if field is not None else None
        if isinstance(value, dict) and inner is not None:
            restored[name] = _restored(inner, value)
        elif isinstance(value, list) and inner is not None:
            restored[name] = [_restored(inner, item) for item in value]
        else:
            restored[name] = value
    return restored

"""The OpenAPI document, made of the operations and the protocol's own descriptors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from capsule_protocol.v1 import types_pb2
from capsule_sidecar import __version__
from capsule_sidecar.names import APP_NAME
from capsule_sidecar.web import problems
from capsule_sidecar.web.json_form import is_inline, is_map, shown_name, value_field
from capsule_sidecar.web.operations import Body, Operation, Query

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string", "description": "Stable; the same as over gRPC."},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                "required": ["field", "description"],
            },
        },
        "request_id": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "reason"],
}
_PATH_SCHEMAS = {
    "app": {"type": "string", "pattern": f"^{APP_NAME.pattern}$"},
    "session_id": {"type": "string", "minLength": 1, "maxLength": 64},
    "prompt_id": {"type": "string", "minLength": 1, "maxLength": 64},
    "file_id": {"type": "string", "minLength": 1, "maxLength": 64},
    "name": {"type": "string", "minLength": 1},
    "path": {
        "type": "string",
        "pattern": "^[^\\u0000-\\u001f\\u007f]*$",
        "description": "What follows: segments, with their slashes.",
    },
}
# What any operation may answer, and what only those with a body may.
_ALWAYS = (400, 421, 429, 500, 503)
_WITH_BODY = (408, 413, 415)
# Of what an app answers: nobody is let in, none of its addresses, its fault, not in time.
_PASSED = (401, 404, 405, 408, 413, 502, 504)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    _of(types_pb2.UserInfo, schemas)  # named by schemas that are no messages
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        # What a path's last name takes may have slashes; the format has no way to say so.
        path = operation.path.replace(":path}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Capsule sidecar",
            "version": __version__,
            "description": "Conversations over HTTP: JSON is the proto3 JSON form of"
            " capsule_protocol.v1, with the fields' own names.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "capsule_{app}",
                    "description": "Set by signing in; named after the app.",
                }
            },
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
            for name in re.findall(r"{(\w+)(?::path)?}", operation.path)
        ]
        + [_parameter(query) for query in operation.query],
        "responses": {},
    }
    if operation.signed_in:
        shown["security"] = [{"cookie": []}]
    if operation.body is not None:
        shown["requestBody"] = {
            "required": bool(operation.body.required or operation.body.whole),
            "content": {"application/json": {"schema": _body(operation.body, schemas)}},
        }
    if operation.form is not None:
        shown["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": dict(operation.form)}},
        }
    if operation.passed and operation.method != "GET":
        shown["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    success = {"description": "Success."} | _content(operation, schemas)
    responses: dict[str, Any] = {
        str(status): {"description": "Not modified."} if status == 304 else success
        for status in (operation.status, *operation.also)
    }
    refused = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status in _refusals(operation):
        if operation.answer is not None and status == 503 and operation.name == "getReadiness":
            responses["503"] = success
            continue
        responses[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}.",
            "content": refused,
        }
    if operation.passed:
        answered = {
            "description": "What the app answers, or a refusal of the sidecar.",
            "content": {**refused, "*/*": {"schema": {}}},
        }
        responses = dict.fromkeys((*responses, "default"), answered)
    shown["responses"] = responses
    return shown


def _refusals(operation: Operation) -> list[int]:
    statuses = {*_ALWAYS, *operation.errors}
    if "{" in operation.path:
        statuses.add(404)
    if operation.passed:
        statuses.update(_PASSED)
    if operation.signed_in:
        statuses.add(401)
    if operation.method != "GET":
        statuses.add(403)
    if operation.body is not None or operation.form is not None:
        statuses.update(_WITH_BODY)
    return sorted(statuses)


def _parameter(query: Query) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": "header" if query.header else "query",
        "description": query.description,
        "schema": dict(query.schema),
    }


def _content(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if operation.media:
        return {"content": {operation.media: {"schema": {"type": "string"}}}}
    answer = operation.answer
    if answer is None:
        return {}
    schema = answer if isinstance(answer, Mapping) else _of(answer, schemas)
    return {"content": {"application/json": {"schema": schema}}}


def _body(body: Body, schemas: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in cast(Descriptor, body.message.DESCRIPTOR).fields:
        if field.name not in body.omit:
            name = shown_name(field)
            properties[name] = {**_field(field, schemas), **body.rules.get(name, {})}
    properties.update(body.extra)
    shown: dict[str, Any] = {"type": "object", "properties": properties}
    shown["additionalProperties"] = False
    shown |= body.whole
    return shown | ({"required": list(body.required)} if body.required else {})


def _of(kind: type[Message], schemas: dict[str, Any]) -> dict[str, Any]:
    return _message(cast(Descriptor, kind.DESCRIPTOR), schemas)


def _message(kind: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind.name not in schemas:
        schemas[kind.name] = {}  # it may hold itself
        schemas[kind.name] = {
            "type": "object",
            "properties": {shown_name(field): _field(field, schemas) for field in kind.fields},
        }
    return {"$ref": f"#/components/schemas/{kind.name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if is_map(field):
        inner = {} if is_inline(field) else _one(value_field(field), schemas)
        return {"type": "object", "additionalProperties": inner}
    one = {} if is_inline(field) else _one(field, schemas)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE if field.message_type is Timestamp.DESCRIPTOR:
            return {"type": "string", "format": "date-time"}
        case FieldDescriptor.TYPE_MESSAGE:
            return _message(cast(Descriptor, field.message_type), schemas)
        case FieldDescriptor.TYPE_ENUM:
            return _enum(cast(EnumDescriptor, field.enum_type))
        case FieldDescriptor.TYPE_INT64 | FieldDescriptor.TYPE_UINT64:
            return {"type": "string", "pattern": "^-?[0-9]+$"}
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_UINT32:
            return {"type": "integer"}
        case FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        case _:
            return {"type": "string"}


def _enum(kind: EnumDescriptor) -> dict[str, Any]:
    return {"type": "string", "enum": [value.name for value in kind.values]}

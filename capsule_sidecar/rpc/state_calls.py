"""The requests of handlers for values and documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable

from capsule_protocol.v1 import collection_service_pb2 as collections
from capsule_protocol.v1 import state_service_pb2 as pb
from capsule_sidecar.rpc import convert
from capsule_sidecar.rpc.call import Call
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.storage import encoding
from capsule_sidecar.storage.documents.store import Updated
from capsule_sidecar.storage.keyvalues import Value


def _get_value(commands: Commands, app: int, r: pb.GetValueRequest) -> Awaitable[Value | None]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.state.get(app, lease, r.scope, r.key)


def _set_value(commands: Commands, app: int, r: pb.SetValueRequest) -> Awaitable[int]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.state.set(app, lease, r.request_id, r.scope, r.key, r.value_json)


def _delete_value(commands: Commands, app: int, r: pb.DeleteValueRequest) -> Awaitable[bool]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.state.delete(app, lease, r.request_id, r.scope, r.key)


def _increment_value(commands: Commands, app: int, r: pb.IncrementValueRequest) -> Awaitable[bytes]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.state.increment(app, lease, r.request_id, r.scope, r.key, r.by_json)


def _list_values(
    commands: Commands, app: int, r: pb.ListValuesRequest
) -> Awaitable[tuple[list[Value], str]]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.state.list(app, lease, r.scope, r.prefix, r.page_size, r.page_token)


def _insert(commands: Commands, app: int, r: collections.InsertRequest) -> Awaitable[list[str]]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.insert(
        app, lease, r.request_id, r.collection.name, r.collection.scope, r.documents_json
    )


def find(
    commands: Commands, app: int, r: collections.FindRequest
) -> AsyncGenerator[list[bytes], None]:
    """Return the batches of a find."""
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.find(
        app, lease, r.collection.name, r.collection.scope, r.filter_json,
        [(key.path, key.descending) for key in r.sort], r.limit, r.skip,
    )  # fmt: skip


def _update(commands: Commands, app: int, r: collections.UpdateRequest) -> Awaitable[Updated]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.update(
        app, lease, r.request_id, r.collection.name, r.collection.scope, r.filter_json,
        r.update_json, many=r.many, upsert=r.upsert,
    )  # fmt: skip


def _delete(commands: Commands, app: int, r: collections.DeleteRequest) -> Awaitable[int]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.delete(
        app, lease, r.request_id, r.collection.name, r.collection.scope, r.filter_json,
        many=r.many,
    )  # fmt: skip


def _count(commands: Commands, app: int, r: collections.CountRequest) -> Awaitable[int]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.count(
        app, lease, r.collection.name, r.collection.scope, r.filter_json
    )


def _distinct(
    commands: Commands, app: int, r: collections.DistinctRequest
) -> Awaitable[list[bytes]]:
    lease = convert.lease_if_any(r.invocation_id, r.attempt)
    return commands.collections.distinct(
        app, lease, r.collection.name, r.collection.scope, r.path, r.filter_json
    )


def _got(value: Value | None) -> pb.GetValueResponse:
    if value is None:
        return pb.GetValueResponse()
    return pb.GetValueResponse(
        value_json=value.value_json, update_time=encoding.timestamp(value.update_ms)
    )


def _listed(found: tuple[list[Value], str]) -> pb.ListValuesResponse:
    values, token = found
    return pb.ListValuesResponse(
        values=[
            pb.KeyValue(
                key=value.key,
                value_json=value.value_json,
                update_time=encoding.timestamp(value.update_ms),
            )
            for value in values
        ],
        next_page_token=token,
    )


STATE_CALLS: dict[str, Call] = {
    "get_value": Call(_get_value, _got),
    "set_value": Call(
        _set_value, lambda ms: pb.SetValueResponse(update_time=encoding.timestamp(ms))
    ),
    "delete_value": Call(_delete_value, lambda gone: pb.DeleteValueResponse(deleted=gone)),
    "increment_value": Call(
        _increment_value, lambda total: pb.IncrementValueResponse(value_json=total)
    ),
    "list_values": Call(_list_values, _listed),
    "insert": Call(_insert, lambda ids: collections.InsertResponse(ids=ids)),
    "update": Call(
        _update,
        lambda found: collections.UpdateResponse(
            matched=found.matched, modified=found.modified, upserted_id=found.upserted_id
        ),
    ),
    "delete": Call(_delete, lambda gone: collections.DeleteResponse(deleted=gone)),
    "count": Call(_count, lambda count: collections.CountResponse(count=count)),
    "distinct": Call(_distinct, lambda values: collections.DistinctResponse(values_json=values)),
}

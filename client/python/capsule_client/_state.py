"""Values and documents, as they are asked for: commands on the line, and Find beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from capsule_client import _channel, _json
from capsule_client._asking import Asking
from capsule_client._beside import Reach, Tries, opened, step
from capsule_client._outbox import Outbox
from capsule_client._requests import refusal
from capsule_client._turn import Turn
from capsule_client.collections import Query, UpdateResult
from capsule_client.errors import CapsuleError, NoSession
from capsule_protocol.v1 import collection_service_pb2 as documents
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import state_service_pb2 as values

_BATCH_TIMEOUT = 30.0  # for the next documents of a find to come

_SCOPES = {
    "session": values.SCOPE_SESSION,
    "user": values.SCOPE_USER,
    "owner": values.SCOPE_OWNER,
    "app": values.SCOPE_APP,
}


class State(Asking):
    """Asks for values and documents in the name of a turn or, with `turn` None, of the app."""

    __slots__ = ("_reach",)

    def __init__(self, turn: Turn | None, outbox: Outbox, reach: Callable[[], Reach]) -> None:
        super().__init__(turn, outbox)
        self._reach = reach

    # Values.

    async def get(self, key: str, default: Any, scope: str) -> Any:
        """Returns a value, or `default` where there is none."""
        frame = pb.HandlerFrame()
        request = frame.command.get_value
        self._read(request)
        self._name(request, key, scope)
        found = (await self._ask(frame)).get_value
        return _json.decode(found.value_json) if found.HasField("value_json") else default

    async def set(self, key: str, value: object, scope: str) -> None:
        """Sets a value."""
        frame = pb.HandlerFrame()
        request = frame.command.set_value
        self._name(request, key, scope)
        request.value_json = _json.encode(value, f"the value of {key!r}")
        self._write(request)
        await self._ask(frame)

    async def delete(self, key: str, scope: str) -> bool:
        """Removes a value; says whether there was one."""
        frame = pb.HandlerFrame()
        request = frame.command.delete_value
        self._name(request, key, scope)
        self._write(request)
        return (await self._ask(frame)).delete_value.deleted

    async def increment(self, key: str, by: float, scope: str) -> Any:
        """Adds to a number; returns the sum."""
        frame = pb.HandlerFrame()
        request = frame.command.increment_value
        self._name(request, key, scope)
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise TypeError(f"by is a number, not a {type(by).__qualname__}")
        request.by_json = _json.encode(by, f"what is added to {key!r}")
        self._write(request)
        return _json.decode((await self._ask(frame)).increment_value.value_json)

    # Documents.

    async def insert(self, name: str, scope: str, found: Sequence[bytes]) -> list[str]:
        """Adds documents; returns their ids."""
        frame = pb.HandlerFrame()
        request = frame.command.insert
        request.collection.CopyFrom(self._collection(name, scope))
        request.documents_json.extend(found)
        self._write(request)
        return list((await self._ask(frame)).insert.ids)

    async def update(
        self, name: str, scope: str, where: bytes, change: bytes, *, many: bool, upsert: bool
    ) -> UpdateResult:
        """Changes documents."""
        frame = pb.HandlerFrame()
        request = frame.command.update
        request.collection.CopyFrom(self._collection(name, scope))
        request.filter_json = where
        request.update_json = change
        request.many = many
        request.upsert = upsert
        self._write(request)
        done = (await self._ask(frame)).update
        return UpdateResult(done.matched, done.modified, done.upserted_id or None)

    async def remove(self, name: str, scope: str, where: bytes, *, many: bool) -> int:
        """Removes documents; returns how many."""
        frame = pb.HandlerFrame()
        request = frame.command.delete
        request.collection.CopyFrom(self._collection(name, scope))
        request.filter_json = where
        request.many = many
        self._write(request)
        return (await self._ask(frame)).delete.deleted

    async def count(self, name: str, scope: str, where: bytes) -> int:
        """Counts documents."""
        frame = pb.HandlerFrame()
        request = frame.command.count
        request.collection.CopyFrom(self._collection(name, scope))
        request.filter_json = where
        self._read(request)
        return (await self._ask(frame)).count.count

    async def distinct(self, name: str, scope: str, path: str, where: bytes) -> list[Any]:
        """Returns the different values at a path."""
        frame = pb.HandlerFrame()
        request = frame.command.distinct
        request.collection.CopyFrom(self._collection(name, scope))
        try:
            request.path = path
        except (TypeError, ValueError) as error:
            raise refusal(error, path=path) from error
        request.filter_json = where
        self._read(request)
        return [_json.decode(each) for each in (await self._ask(frame)).distinct.values_json]

    async def find(
        self, name: str, scope: str, query: Query, *, whole: bool
    ) -> AsyncGenerator[Sequence[bytes] | None, None]:
        """Yields documents in batches; the next one is fetched as it is asked for.

        With `whole`, one that breaks off is begun anew, which None tells. Without, that is done
        only before the first batch: behind it, nobody could say what is still to be read.
        """
        request = documents.FindRequest(
            collection=self._collection(name, scope),
            filter_json=query.where,
            limit=query.limit,
            skip=query.skip,
        )
        for path, descending in query.sort:
            try:
                request.sort.add(path=path, descending=descending)
            except (TypeError, ValueError) as error:
                raise refusal(error, sort=path) from error
        self._read(request)
        tries = Tries()
        begun = False
        while True:
            try:
                self._turn.check()
                channel, metadata = opened(self._reach())
                find: Any = channel.unary_stream(
                    _channel.FIND,
                    request_serializer=documents.FindRequest.SerializeToString,
                    response_deserializer=documents.FindResponse.FromString,
                )
                call = find(request, metadata=metadata)
                try:
                    while True:
                        answer = await step(call.read(), _BATCH_TIMEOUT)
                        if not isinstance(answer, documents.FindResponse):
                            return
                        begun = begun or bool(answer.documents_json)
                        yield answer.documents_json
                finally:
                    call.cancel()
            except CapsuleError as error:
                if begun and not whole:
                    raise
                lost = self._within and not self._reach().connected
                await tries.wait(error, lost=lost)
                if begun:
                    begun = False
                    yield None

    # Inside.

    def _check(self, scope: str, what: str) -> None:
        if scope == "session" and not self._turn.invocation.HasField("session"):
            raise NoSession(
                f"{what}: a request has none, nor has a schedule or a task that was submitted"
                " without one",
                reason="NO_SESSION",
            )

    def _collection(self, name: str, scope: str) -> documents.Collection:
        if scope != "app" and not self._within:
            raise NoSession(
                f"the documents of {name!r} are each {scope}'s: `db` of a session or a request"
                " reaches them, and what has neither reaches those of scope 'app'"
            )
        self._check(scope, f"the documents of {name!r} are each session's")
        return documents.Collection(name=name, scope=_SCOPES[scope])

    def _name(self, request: Any, key: str, scope: str) -> None:
        if scope not in _SCOPES:
            raise ValueError(f"scope is one of {', '.join(_SCOPES)}, not {scope!r}")
        self._check(scope, f"the key {key!r} is to be a session's")
        request.scope = _SCOPES[scope]
        try:
            request.key = key
        except (TypeError, ValueError) as error:
            raise refusal(error, key=key) from error


def declarations(
    collections: Mapping[str, tuple[str, Sequence[str]]],
) -> list[pb.CollectionDeclaration]:
    """Returns what a Hello says of collections: those with indexes, the others need no word."""
    return [
        pb.CollectionDeclaration(
            collection=documents.Collection(name=name, scope=_SCOPES[scope]), indexes=indexes
        )
        for name, (scope, indexes) in collections.items()
        if indexes
    ]

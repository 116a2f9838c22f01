"""Documents and values as a handler's attempt reaches them: storage's own calls, shortened."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from capsule_sidecar.model.ids import digest
from capsule_sidecar.model.types import Lease
from capsule_sidecar.storage import keyvalues
from capsule_sidecar.storage.documents import finding, indexes, store
from capsule_sidecar.storage.documents.filters import parse_filter
from capsule_sidecar.storage.documents.finding import Target, parse_find
from capsule_sidecar.storage.documents.store import Updated, parse_documents
from capsule_sidecar.storage.documents.updates import parse_update
from capsule_sidecar.storage.keyvalues import Value
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.scopes import Caller, Scope
from tests.integration.storage.store import Sidecar

Json = Any
FilterText = Json | bytes


def text(value: Json | bytes) -> bytes:
    """Returns JSON of a value; bytes are JSON already."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def request(method: Method, key: uuid.UUID | None = None, *content: object) -> Request:
    """Returns a request's identity, of a new id unless one is given."""
    return Request(method, (key or uuid.uuid4()).bytes, digest(repr(content)))


@dataclass(frozen=True)
class Desk:
    """A collection and the values of one scope, as one caller has them."""

    sidecar: Sidecar
    collection: str = "things"
    scope: Scope = Scope.APP
    lease: Lease | None = None

    def at(self, **changes: Any) -> Desk:
        """Returns another collection, scope or caller of the same sidecar."""
        return replace(self, **changes)

    @property
    def caller(self) -> Caller:
        return Caller(self.sidecar.app, self.lease)

    @property
    def target(self) -> Target:
        return Target(self.caller, self.collection, self.scope)

    # -- documents ------------------------------------------------------------------------------

    async def insert(self, *documents: Json | bytes, key: uuid.UUID | None = None) -> list[str]:
        """Inserts documents; returns their ids."""
        parsed = parse_documents([text(document) for document in documents])
        made = request(Method.INSERT_DOCUMENTS, key, documents)
        return await self.sidecar.do(
            store.insert, target=self.target, request=made, documents=parsed
        )

    async def raw(
        self, filter_: FilterText = b"", *sort: tuple[str, bool], limit: int = 0, skip: int = 0
    ) -> list[bytes]:
        """Returns what a find sends."""
        wanted = parse_find(self.target, text(filter_), sort, limit, skip)
        return [
            document
            async for batch in finding.find(self.sidecar.journal, wanted)
            for document in batch
        ]

    async def find(self, filter_: FilterText = b"", *sort: tuple[str, bool], **bounds: int) -> Json:
        """Returns documents without their ids and times."""
        found = [json.loads(each) for each in await self.raw(filter_, *sort, **bounds)]
        for each in found:
            del each["id"], each["create_time"], each["update_time"]
        return found

    async def ids(
        self, filter_: FilterText = b"", *sort: tuple[str, bool], **bounds: int
    ) -> list[str]:
        """Returns the ids of documents."""
        return [json.loads(each)["id"] for each in await self.raw(filter_, *sort, **bounds)]

    async def count(self, filter_: FilterText = b"") -> int:
        """Counts documents."""
        condition = parse_filter(text(filter_) if filter_ != b"" else b"").condition
        return await self.sidecar.read(finding.count, self.target, condition)

    async def distinct(self, path: str, filter_: FilterText = b"") -> Json:
        """Returns different values."""
        condition = parse_filter(text(filter_) if filter_ != b"" else b"").condition
        found = await self.sidecar.read(finding.distinct, self.target, path, condition)
        return [json.loads(value) for value in found]

    async def update(
        self,
        filter_: FilterText,
        change: Json | bytes,
        *,
        many: bool = False,
        upsert: bool = False,
        key: uuid.UUID | None = None,
    ) -> Updated:
        """Updates documents."""
        return await self.sidecar.do(
            store.update,
            target=self.target,
            request=request(Method.UPDATE_DOCUMENTS, key, filter_, change, many, upsert),
            found=parse_filter(text(filter_)),
            change=parse_update(text(change)),
            many=many,
            upsert=upsert,
        )

    async def delete(
        self, filter_: FilterText = b"{}", *, many: bool = True, key: uuid.UUID | None = None
    ) -> int:
        """Removes documents."""
        return await self.sidecar.do(
            store.delete,
            target=self.target,
            request=request(Method.DELETE_DOCUMENTS, key, filter_, many),
            condition=parse_filter(text(filter_)).condition,
            many=many,
        )

    async def index(self, *paths: str) -> None:
        """Declares indexes and builds them."""
        await indexes.ensure(
            self.sidecar.journal, self.sidecar.app, self.collection, self.scope, paths
        )

    # -- values ---------------------------------------------------------------------------------

    async def set(self, name: str, value: Json | bytes, *, key: uuid.UUID | None = None) -> int:
        """Sets a value."""
        return await self.sidecar.do(
            keyvalues.set_value,
            caller=self.caller,
            scope=self.scope,
            request=request(Method.SET_VALUE, key, name, value),
            key=keyvalues.check_key(name),
            value_json=keyvalues.check_value(text(value)),
        )

    async def get(self, name: str) -> bytes | None:
        """Returns a value's JSON."""
        found = await self.sidecar.read(keyvalues.get_value, self.caller, self.scope, name)
        return None if found is None else found.value_json

    async def unset(self, name: str, *, key: uuid.UUID | None = None) -> bool:
        """Removes a value."""
        return await self.sidecar.do(
            keyvalues.delete_value,
            caller=self.caller,
            scope=self.scope,
            request=request(Method.DELETE_VALUE, key, name),
            key=name,
        )

    async def add(self, name: str, by: bytes = b"", *, key: uuid.UUID | None = None) -> bytes:
        """Adds to a number."""
        return await self.sidecar.do(
            keyvalues.increment,
            caller=self.caller,
            scope=self.scope,
            request=request(Method.INCREMENT_VALUE, key, name, by),
            key=name,
            by=keyvalues.parse_by(by),
        )

    async def page(
        self, prefix: str = "", size: int = 50, token: str = "", size_bytes: int = 1 << 20
    ) -> tuple[list[Value], str]:
        """Returns a page of values."""
        return await self.sidecar.read(
            partial(
                keyvalues.list_values,
                caller=self.caller,
                scope=self.scope,
                prefix=prefix,
                page_size=size,
                page_bytes=size_bytes,
                page_token=token,
            )
        )

"""Documents in collections: what a handler may ask of them.

Each is a plain function that validates and hands over before it returns, so the order of calls is
the order of effects; reads run beside.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Sequence
from functools import partial

from capsule_sidecar.model.errors import DomainError, InvalidArgument, StorageUnavailable
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import CollectionIndexes, Lease
from capsule_sidecar.runtime.scoped import Scoped, check_scope, name_of
from capsule_sidecar.storage.documents import finding, indexes, store
from capsule_sidecar.storage.documents.filters import parse_filter
from capsule_sidecar.storage.documents.finding import Target
from capsule_sidecar.storage.documents.store import Updated
from capsule_sidecar.storage.documents.updates import parse_update
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.scopes import Scope

logger = logging.getLogger("capsule.collections")

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")
_MAX_DECLARED = 100
_MAX_INDEXES = 10
# Pause before indexes are built on, where storage was away.
_AGAIN_SECONDS = 5.0


class Collections:
    """The handler's side of documents. A lease of None is no invocation: the app itself.

    Every method raises InvalidArgument for a malformed field, before anything is done; what it
    returns fails as the storage's function of its name does. Enter it with `async with`: leaving
    ends the building of indexes, which goes on when they are declared again.

    Args:
        scoped: The way to them.
    """

    def __init__(self, scoped: Scoped) -> None:
        self._scoped = scoped
        self._building: dict[tuple[int, tuple[CollectionIndexes, ...]], asyncio.Task[None]] = {}

    async def __aenter__(self) -> Collections:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._building.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def insert(
        self,
        app: int,
        lease: Lease | None,
        request_id: str,
        name: str,
        scope: int,
        documents: Sequence[bytes],
    ) -> asyncio.Future[list[str]]:
        """Add documents, all or none. Answers their ids.

        Raises:
            LimitExceeded: They are too many, or one is too large.
        """
        target = self._target(app, lease, name, scope)
        parsed = store.parse_documents(documents)
        request = _request(Method.INSERT_DOCUMENTS, request_id, target, *documents)
        return self._scoped.write(
            target.caller, partial(store.insert, target=target, request=request, documents=parsed)
        )

    def find(
        self,
        app: int,
        lease: Lease | None,
        name: str,
        scope: int,
        filter_json: bytes,
        sort: Sequence[tuple[str, bool]],
        limit: int,
        skip: int,
    ) -> AsyncGenerator[list[bytes], None]:
        """Return the batches of documents that a filter matches, read as they are asked for."""
        target = self._target(app, lease, name, scope)
        wanted = finding.parse_find(target, filter_json, sort, limit, skip)
        return finding.find(self._scoped.journal, wanted)

    def update(
        self,
        app: int,
        lease: Lease | None,
        request_id: str,
        name: str,
        scope: int,
        filter_json: bytes,
        update_json: bytes,
        *,
        many: bool,
        upsert: bool,
    ) -> asyncio.Future[Updated]:
        """Change the documents that a filter matches: all, or the first."""
        target = self._target(app, lease, name, scope)
        found, change = parse_filter(filter_json), parse_update(update_json)
        request = _request(
            Method.UPDATE_DOCUMENTS, request_id, target, filter_json, update_json,
            bytes((many, upsert)),
        )  # fmt: skip
        return self._scoped.write(
            target.caller,
            partial(
                store.update, target=target, request=request, found=found, change=change,
                many=many, upsert=upsert,
            ),
        )  # fmt: skip

    def delete(
        self,
        app: int,
        lease: Lease | None,
        request_id: str,
        name: str,
        scope: int,
        filter_json: bytes,
        *,
        many: bool,
    ) -> asyncio.Future[int]:
        """Remove the documents that a filter matches: all, or the first. Answers how many."""
        target = self._target(app, lease, name, scope)
        condition = parse_filter(filter_json).condition
        request = _request(Method.DELETE_DOCUMENTS, request_id, target, filter_json, bytes((many,)))
        return self._scoped.write(
            target.caller,
            partial(store.delete, target=target, request=request, condition=condition, many=many),
        )

    def count(
        self, app: int, lease: Lease | None, name: str, scope: int, filter_json: bytes
    ) -> Awaitable[int]:
        """Return how many documents a filter matches."""
        target = self._target(app, lease, name, scope)
        condition = parse_filter(filter_json).condition
        return self._scoped.read(partial(finding.count, target=target, condition=condition))

    def distinct(
        self, app: int, lease: Lease | None, name: str, scope: int, path: str, filter_json: bytes
    ) -> Awaitable[list[bytes]]:
        """Return the different values at a path of the documents that a filter matches."""
        target = self._target(app, lease, name, scope)
        condition = parse_filter(filter_json).condition
        return self._scoped.read(
            partial(finding.distinct, target=target, path=path, condition=condition)
        )

    def _target(self, app: int, lease: Lease | None, name: str, scope: int) -> Target:
        whose = check_collection(name, scope)
        return Target(self._scoped.caller(app, lease, whose), name, whose)

    # -- indexes ---------------------------------------------------------------------------------

    def declare(self, app: int, declared: tuple[CollectionIndexes, ...]) -> None:
        """Have the indexes that a process declares built, among other work; nobody waits."""
        wanted = app, tuple(entry for entry in declared if entry.paths)
        if wanted[1] and wanted not in self._building:
            task = asyncio.create_task(self._build(*wanted), name="build-indexes")
            self._building[wanted] = task
            task.add_done_callback(lambda _: self._building.pop(wanted))

    async def _build(self, app: int, declared: tuple[CollectionIndexes, ...]) -> None:
        for entry in declared:
            # Nothing tells when storage is back.
            while not await self._built(app, entry):  # noqa: ASYNC110
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _built(self, app: int, entry: CollectionIndexes) -> bool:
        """Build a collection's indexes; False: storage is away, and they are to be built again."""
        try:
            scope = Scope(entry.scope)
            await indexes.ensure(self._scoped.journal, app, entry.name, scope, entry.paths)
        except StorageUnavailable:
            return False
        except DomainError as error:
            logger.warning("the indexes of collection %s: %s", entry.name, error.message)
        except Exception:
            # Storage's defect: documents are found without them, only more slowly.
            logger.exception("the indexes of collection %s could not be built", entry.name)
        return True


def check_collection(name: str, scope: int, field: str = "collection") -> Scope:
    """Return the scope of a collection that can be.

    Raises:
        InvalidArgument: Its name or scope is malformed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field}.name", "must be 1 to 64 of letters, digits, _ and -, beginning with a letter"
        )
    return check_scope(scope, f"{field}.scope")


def check_declared(
    found: Sequence[tuple[str, int, Sequence[str]]], field: str
) -> tuple[CollectionIndexes, ...]:
    """Return the collections that a process declares, as (name, scope, indexes).

    Raises:
        InvalidArgument: There are too many, or one of them is malformed.
    """
    if len(found) > _MAX_DECLARED:
        raise InvalidArgument(field, f"must be at most {_MAX_DECLARED}")
    declared = []
    for n, (name, scope, given) in enumerate(found):
        where = f"{field}[{n}]"
        check_collection(name, scope, f"{where}.collection")
        paths = [
            indexes.check_index(path.strip(), f"{where}.indexes[{i}]")
            for i, entry in enumerate(given)
            for path in entry.split(",")
        ]
        if len(paths) > _MAX_INDEXES:
            raise InvalidArgument(f"{where}.indexes", f"must be at most {_MAX_INDEXES}")
        declared.append(CollectionIndexes(name, scope, tuple(paths)))
    return tuple(declared)


def _request(method: Method, request_id: str, target: Target, *parts: bytes) -> Request:
    content = digest(
        name_of(target.caller.lease), str(int(target.scope)), target.collection, *parts
    )
    return Request(method, parse_request_id(request_id), content)

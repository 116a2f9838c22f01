"""Collections: documents of a session, a user, an owner or the app, found by filters."""

from __future__ import annotations

import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from capsule_client import _json

if TYPE_CHECKING:
    from capsule_client._state import State

Scope = Literal["session", "user", "owner", "app"]
Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = str | Sequence[str | tuple[str, int]]

SCOPES = ("session", "user", "owner", "app")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MAX_COUNT = 2**31 - 1
_MAX_INDEXES = 10


class UpdateResult(NamedTuple):
    """What became of an update.

    Attributes:
        matched: How many documents the filter matched.
        modified: How many of them are different now.
        upserted_id: The id of the document that was made; None where none was.
    """

    matched: int
    modified: int
    upserted_id: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """What a find asks for, looked at."""

    where: bytes
    sort: Sequence[tuple[str, bool]]
    limit: int
    skip: int


class Found:
    """Documents that a filter matches: `await` gives a list, `async for` one after the other.

    Nothing is asked before one of them begins; each asks anew. `async for` fetches as it goes: it
    holds a batch at a time, however many there are, and no snapshot (a document that is changed
    meanwhile comes as it is then). Where the sidecar is lost behind the first document, it raises
    Unavailable; `await` begins again then.
    """

    __slots__ = ("_batches",)

    def __init__(
        self, batches: Callable[[bool], AsyncGenerator[Sequence[bytes] | None, None]]
    ) -> None:
        self._batches = batches

    def __await__(self) -> Generator[Any, None, list[Document]]:
        """Returns all of them."""
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[Document]:
        """Yields one after the other."""
        async with aclosing(self._batches(False)) as batches:
            async for batch in batches:
                for each in batch or ():
                    yield _json.decode(each)

    async def _all(self) -> list[Document]:
        found: list[Document] = []
        async with aclosing(self._batches(True)) as batches:
            async for batch in batches:
                if batch is None:
                    found.clear()
                else:
                    found += map(_json.decode, batch)
        return found


class Collection:
    """A collection; its calls reach the documents of its scope and no others.

    Filters and updates are dicts in the manner of MongoDB; the page on state and collections has
    them. A filter, update or document that is not JSON is a TypeError that names the place; one
    that the sidecar does not take is InvalidArgument with its path, as `filter.price.$gt`.
    """

    def __init__(self, name: str, scope: str, state: Callable[[], State]) -> None:
        self._name = name
        self._scope = scope
        self._state = state

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def scope(self) -> str:
        """Whose documents it has: `session`, `user`, `owner` or `app`."""
        return self._scope

    async def insert_one(self, document: Mapping[str, Any]) -> str:
        """Adds a document and returns its id.

        Args:
            document: At most 1 MiB as JSON. Its `id`, where it has one, is 1 to 128 characters.
                It has no `create_time` and no `update_time`: of one that was read take them out.

        Raises:
            Conflict: There is a document with this id; reason `DOCUMENT_EXISTS`.
            LimitExceeded: It is too large.
        """
        return (await self.insert_many([document]))[0]

    async def insert_many(self, documents: Iterable[Mapping[str, Any]]) -> list[str]:
        """Adds 1 to 1,000 documents, all or none, of 4 MiB in all; returns their ids in order.

        Raises what `insert_one` does.
        """
        found = [
            _object(each, f"document {number} for {self._name!r}")
            for number, each in enumerate(documents)
        ]
        return await self._state().insert(self._name, self._scope, found)

    async def find_one(
        self,
        filter: Filter | None = None,  # noqa: A002 - MongoDB's word
        *,
        sort: Sort = (),
        skip: int = 0,
    ) -> Document | None:
        """Returns the first document that a filter matches; None where there is none."""
        found = await self.find(filter, sort=sort, limit=1, skip=skip)
        return found[0] if found else None

    def find(
        self,
        filter: Filter | None = None,  # noqa: A002 - MongoDB's word
        *,
        sort: Sort = (),
        limit: int | None = None,
        skip: int = 0,
    ) -> Found:
        """Returns the documents that a filter matches: to be awaited, or iterated.

        Args:
            filter: None or {}: every document.
            sort: `"name"`, `"-name"` (the largest first), or a list of these or of
                `("name", 1 or -1)`; at most 10. Without, and among equals: in the order of
                insertion.
            limit: At most so many, from 1. None: all.
            skip: So many are passed over first.

        Raises:
            ValueError: for a limit or skip out of its bounds, or an empty path.
            TypeError: for a sort that is none of these, or a filter that is not JSON.
        """
        query = Query(_where(filter), _sorted(sort), _limit(limit), _whole(skip, "skip", 0))
        return Found(lambda whole: self._state().find(self._name, self._scope, query, whole=whole))

    async def update_one(
        self,
        filter: Filter,  # noqa: A002 - MongoDB's word
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
    ) -> UpdateResult:
        """Changes the first document, in the order of insertion, that a filter matches.

        Args:
            filter: Which; {} is any.
            update: Operators, as `{"$inc": {"n": 1}}`; or a plain dict, which sets its fields. Its
                `id` and times, where it has them, are those of the document.
            upsert: Where none matches, one is made of the filter's equalities and the update.

        Raises:
            Conflict: An operator meets a value that it cannot change (`WRONG_TYPE`), or the
                document to be made has an id that is there (`DOCUMENT_EXISTS`). Nothing is changed.
            LimitExceeded: It would become too large.
        """
        return await self._update(filter, update, many=False, upsert=upsert)

    async def update_many(
        self,
        filter: Filter,  # noqa: A002 - MongoDB's word
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
    ) -> UpdateResult:
        """Changes every document that a filter matches, up to 100,000; else as `update_one`."""
        return await self._update(filter, update, many=True, upsert=upsert)

    async def delete_one(self, filter: Filter) -> int:  # noqa: A002 - MongoDB's word
        """Removes the first document that a filter matches; returns how many that were."""
        where = _object(filter, "filter")
        return await self._state().remove(self._name, self._scope, where, many=False)

    async def delete_many(self, filter: Filter) -> int:  # noqa: A002 - MongoDB's word
        """Removes every document that a filter matches, up to 100,000; returns how many."""
        where = _object(filter, "filter")
        return await self._state().remove(self._name, self._scope, where, many=True)

    async def count(self, filter: Filter | None = None) -> int:  # noqa: A002 - MongoDB's word
        """Counts the documents that a filter matches."""
        return await self._state().count(self._name, self._scope, _where(filter))

    async def distinct(self, path: str, filter: Filter | None = None) -> list[Any]:  # noqa: A002 - MongoDB's word
        """Returns the different values at a path, in the order in which values sort.

        The elements of an array count each. At most 10,000, or 1 MiB: else LimitExceeded.
        """
        return await self._state().distinct(self._name, self._scope, path, _where(filter))

    async def _update(
        self, which: Filter, update: Mapping[str, Any], *, many: bool, upsert: bool
    ) -> UpdateResult:
        where, change = _object(which, "filter"), _object(update, "update")
        return await self._state().update(
            self._name, self._scope, where, change, many=many, upsert=upsert
        )

    def __repr__(self) -> str:
        """Names it."""
        return f"<Collection {self._name!r} of scope {self._scope!r}>"


class Database:
    """The declared collections: `db.notes`, or `db["my-notes"]`."""

    __slots__ = ("_declared", "_state")

    def __init__(
        self, declared: Mapping[str, tuple[str, Sequence[str]]], state: Callable[[], State]
    ) -> None:
        self._declared = declared
        self._state = state

    def __getattr__(self, name: str) -> Collection:
        """Returns a collection; raises AttributeError for one that is not declared."""
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __getitem__(self, name: str) -> Collection:
        """Returns a collection; raises KeyError for one that is not declared."""
        found = self._declared.get(name)
        if found is None:
            raise KeyError(f"no collection {name!r}: declare it, as app.collection({name!r})")
        return Collection(name, found[0], self._state)

    def __dir__(self) -> list[str]:
        """Names the collections, for who looks around."""
        return sorted(self._declared)


def check_declaration(name: str, scope: str, indexes: Iterable[str]) -> tuple[str, list[str]]:
    """Returns a collection's scope and indexes.

    Raises ValueError for a malformed name, another scope, and empty or too many indexes; TypeError
    for indexes that are no list of strings.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a collection's name is of the form {_NAME.pattern}, not {name!r}")
    if scope not in SCOPES:
        raise ValueError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    paths = [indexes] if isinstance(indexes, str) else list(indexes)
    if isinstance(indexes, str) or not all(isinstance(path, str) for path in paths):
        raise TypeError(f"indexes of {name!r} is a list of dotted paths, not {indexes!r}")
    if not all(paths) or len(paths) > _MAX_INDEXES:
        raise ValueError(f"indexes of {name!r} is up to {_MAX_INDEXES} paths that are not empty")
    return scope, paths


def _object(value: object, what: str) -> bytes:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} is a dict, not a {type(value).__qualname__}")
    return _json.encode(dict(value), what)


def _where(value: Filter | None) -> bytes:
    return b"" if value is None else _object(value, "filter")


def _sorted(sort: Sort) -> list[tuple[str, bool]]:
    keys = [sort] if isinstance(sort, str) else sort
    found = []
    for key in keys:
        match key:
            case str():
                path, descending = key.removeprefix("-"), key.startswith("-")
            case (str() as path, (1 | -1) as order):
                descending = order == -1
            case _:
                raise TypeError(f'sort is "name", "-name" or a list of ("name", 1 or -1): {key!r}')
        if not path:
            raise ValueError(f"sort names a path, not {key!r}")
        found.append((path, descending))
    return found


def _limit(limit: int | None) -> int:
    return 0 if limit is None else _whole(limit, "limit", 1)


def _whole(value: int, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not a {type(value).__qualname__}")
    if not least <= value <= _MAX_COUNT:
        raise ValueError(f"{what} is {least} to {_MAX_COUNT:,}, not {value}")
    return value

"""`session.data`: a dict whose changes are found by looking, not by trusting how they were made."""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    ValuesView,
)
from typing import Any, NamedTuple

from capsule_client import _json

_MAX_KEY = 256
_MISSING: Any = object()


class DataChanges(NamedTuple):
    """What differs from what the sidecar has: new values as UTF-8 JSON by key, and keys gone."""

    set_json: dict[str, bytes]
    delete_keys: list[str]

    def __bool__(self) -> bool:
        return bool(self.set_json or self.delete_keys)


class SessionData(dict[str, Any]):
    """A session's own key-values: read and change it like any dict.

    Reads are local. Every change, nested ones included, is committed with the outcome of the
    turn; `flush` commits at once. Only top-level keys that changed travel.

    A value that is not JSON is a TypeError naming its key: at the assignment where it is visible
    there, else at the flush or at the end of the turn. Keys are strings of 1 to 256 characters.
    """

    # How changes are found: `_stored` names the keys that the sidecar has. Before a list or dict of
    # it leaves our hands, or any value of it is replaced, its JSON goes to `_baseline`; what
    # differs from that later has changed. What nobody looked at costs nothing.
    __slots__ = ("_baseline", "_commit", "_stored")

    def __init__(
        self,
        stored: Mapping[str, Any],
        commit: Callable[[DataChanges], Awaitable[None]],
    ) -> None:
        super().__init__(stored)
        self._stored = set(stored)
        self._baseline: dict[str, bytes] = {}
        self._commit = commit

    async def flush(self) -> None:
        """Commits the changes so far; they stay whatever becomes of the turn.

        Raises TypeError for a value that is not JSON or has a number of more than 400 characters,
        LimitExceeded where the whole would pass 1 MiB, Superseded where this attempt is no longer
        the session's; nothing is applied then.
        """
        changes = self.changes()
        if changes:
            await self._commit(changes)
            self._stored.update(changes.set_json)
            self._stored.difference_update(changes.delete_keys)
            self._baseline.update(changes.set_json)
            for key in changes.delete_keys:
                self._baseline.pop(key, None)

    def changes(self) -> DataChanges:
        """Returns what differs from what the sidecar has.

        Raises TypeError naming the key of a value that is not JSON.
        """
        changed: dict[str, bytes] = {}
        for key, value in super().items():
            before = self._baseline.get(key)
            if key in self._stored and before is None:
                continue  # nobody has looked at it, so nobody has changed it
            now = _encode(key, value)
            if key not in self._stored or now != before:
                # What was stored before there was this limit can be read all the same.
                _json.check_numbers(now, f"session.data[{key!r}]")
                changed[key] = now
        return DataChanges(
            changed, [key for key in self._stored if not dict.__contains__(self, key)]
        )

    def replace(self, content: Mapping[str, Any]) -> None:
        """Makes `content` the whole of it: what `session.data = content` does."""
        if content is self:
            return
        if not isinstance(content, Mapping):
            raise TypeError(f"session.data is a mapping, not a {type(content).__qualname__}")
        fresh = dict(content)
        for key, value in fresh.items():
            _check(key, value)
        self.clear()
        super().update(fresh)

    # Reading: note what could be changed in place afterwards.

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        self._note(key, value)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """As `dict.get`."""
        value = super().get(key, _MISSING)
        if value is _MISSING:
            return default
        self._note(key, value)
        return value

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # dict_values is not spelled
        """As `dict.values`."""
        self._note_all()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # dict_items is not spelled
        """As `dict.items`."""
        self._note_all()
        return super().items()

    def __iter__(self) -> Iterator[str]:
        # Being defined at all keeps dict(data) and {**data} from reading past __getitem__.
        return super().__iter__()

    def copy(self) -> dict[str, Any]:
        """As `dict.copy`: a plain dict."""
        return dict(self.items())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        from copy import deepcopy

        return {key: deepcopy(value, memo) for key, value in super().items()}

    def __reduce__(self) -> Any:
        return dict, (list(super().items()),)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return self.__reduce__()

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    # Changing: refuse at once what is not JSON, note what is about to go.

    def __setitem__(self, key: str, value: Any) -> None:
        _check(key, value)
        self._leaving(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._leaving(key)
        super().__delitem__(key)

    def update(self, *others: Any, **named: Any) -> None:
        """As `dict.update`; all or nothing where a value is not JSON."""
        fresh = dict(*others, **named)
        for key, value in fresh.items():
            _check(key, value)
        for key in fresh:
            self._leaving(key)
        super().update(fresh)

    def __ior__(self, other: Any) -> SessionData:  # type: ignore[override]  # dict's overloads
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As `dict.setdefault`."""
        if not dict.__contains__(self, key):
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """As `dict.pop`."""
        self._leaving(key)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """As `dict.popitem`."""
        self._note_all()
        for key in reversed(self):
            self._leaving(key)
            break
        return super().popitem()

    def clear(self) -> None:
        """As `dict.clear`."""
        for key in self:
            self._leaving(key)
        super().clear()

    @classmethod
    def fromkeys(cls, keys: Iterable[str], value: Any = None) -> dict[str, Any]:  # type: ignore[override]  # a plain dict
        """As `dict.fromkeys`: a plain dict."""
        return dict.fromkeys(keys, value)

    def _note(self, key: str, value: Any) -> None:
        if isinstance(value, dict | list) and key in self._stored and key not in self._baseline:
            self._baseline[key] = _encode(key, value)

    def _note_all(self) -> None:
        for key, value in super().items():
            self._note(key, value)

    def _leaving(self, key: Any) -> None:
        if key in self._stored and key not in self._baseline:
            value = super().get(key, _MISSING)
            if value is not _MISSING:
                self._baseline[key] = _encode(key, value)


def _check(key: Any, value: Any) -> None:
    if type(key) is not str:
        raise TypeError(f"session.data has the key {key!r}; keys are strings")
    if not 1 <= len(key) <= _MAX_KEY:
        raise ValueError(f"session.data key {key[:40]!r}: 1 to {_MAX_KEY} characters are allowed")
    _json.check(value, f"session.data[{key!r}]")


def _encode(key: str, value: Any) -> bytes:
    return _json.encode(value, f"session.data[{key!r}]")

"""What a task's declaration and submission have to keep to, looked at before anything is sent."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import datetime, timedelta
from string import Formatter
from typing import Any

from capsule_client import _json
from capsule_client._durations import duration_of
from capsule_client.errors import InvalidArgument

_MAX_NAME = 128
_MAX_RETRIES = 1000
_MAX_TIMEOUT = timedelta(days=30)
_MAX_LOCK = 512
_MAX_PROGRESS_MESSAGE = 1000

# What `submit` and `schedule` take themselves, so that no argument of a task can have the name.
RESERVED = frozenset({"self", "session", "key", "delay", "at"})


def name_of(function: Any, name: str | None, what: str) -> str:
    """Returns the name of a task or schedule: the one given, else its function's.

    Raises TypeError for one that is no string, ValueError for an empty or too long one.
    """
    found = getattr(function, "__name__", "") if name is None else name
    if not isinstance(found, str):
        raise TypeError(f"a {what}'s name is a string, not a {type(found).__qualname__}")
    if not 1 <= len(found) <= _MAX_NAME:
        raise ValueError(f"a {what}'s name is 1 to {_MAX_NAME} characters, not {found!r}")
    return found


def check_retries(retries: int) -> int:
    """Returns how many failed tries are tried again; raises ValueError out of 0 to 1,000."""
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries is a whole number, not a {type(retries).__qualname__}")
    if not 0 <= retries <= _MAX_RETRIES:
        raise ValueError(f"retries is 0 to {_MAX_RETRIES:,}, not {retries}")
    return retries


def check_timeout(timeout: str | float | timedelta | None) -> timedelta | None:
    """Returns how long one try may take; raises ValueError out of 1 ms to 30 days."""
    if timeout is None:
        return None
    span = duration_of(timeout, "timeout")
    if not timedelta(milliseconds=1) <= span <= _MAX_TIMEOUT:
        raise ValueError(f"timeout is 1 ms to 30 days, not {timeout!r}")
    return span


def check_retry_for(kinds: Any) -> tuple[type[BaseException], ...] | None:
    """Returns which errors are tried again, None for all.

    Raises TypeError for anything but an exception class or a tuple of them.
    """
    if kinds is None:
        return None
    classes = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"retry_for is an exception class or a tuple of them, not {kinds!r}")
    return classes


def delay_of(delay: str | float | timedelta) -> timedelta:
    """Returns how long to wait; raises ValueError for less than nothing, else as `duration_of`."""
    span = duration_of(delay, "delay")
    if span < timedelta():
        raise ValueError(f"delay is not negative: {delay!r}")
    return span


def moment_of(at: datetime) -> datetime:
    """Returns when to begin; raises ValueError for a time that says no time zone."""
    if not isinstance(at, datetime):
        raise TypeError(f"at is a datetime, not a {type(at).__qualname__}")
    if at.utcoffset() is None:
        raise ValueError(
            f"at says no time zone: {at!r}; write datetime.now(UTC) + ..., or at.astimezone()"
        )
    return at


def patience_of(timeout: str | float | timedelta | None) -> float | None:
    """Returns seconds to wait for a result, None for any time."""
    if timeout is None:
        return None
    seconds = duration_of(timeout, "timeout").total_seconds()
    if seconds < 0:
        raise ValueError(f"timeout is not negative: {timeout!r}")
    return seconds


def check_progress(fraction: float, message: str) -> None:
    """Sees to it that progress can be told; raises TypeError, ValueError or InvalidArgument."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise TypeError(f"progress is a number from 0 to 1, not a {type(fraction).__qualname__}")
    if not 0 <= fraction <= 1:  # NaN is neither
        raise ValueError(f"progress is a number from 0 to 1, not {fraction!r}")
    if not isinstance(message, str):
        raise TypeError(f"message is a string, not a {type(message).__qualname__}")
    if len(message) > _MAX_PROGRESS_MESSAGE:
        raise ValueError(f"message is at most {_MAX_PROGRESS_MESSAGE:,} characters")
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"message: not valid Unicode: {error.reason}") from error


class Arguments:
    """What a task is given: every parameter but the first, which is the session.

    Raises TypeError for a function that cannot be a task, ValueError for parameters that
    nothing can name and for a lock that is no template of them.
    """

    def __init__(self, function: Any, name: str, lock: str | None) -> None:
        self._task = f"task {name!r}"
        shown = getattr(function, "__name__", "run")
        # An object may be a handler too: by its __call__, as with the other kinds.
        called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
        if not inspect.iscoroutinefunction(called):
            raise TypeError(f"tasks are async functions: write `async def {shown}(session, ...)`")
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        first = parameters[0] if parameters else None
        if first is None or first.kind not in (
            first.POSITIONAL_ONLY,
            first.POSITIONAL_OR_KEYWORD,
        ):
            raise TypeError(
                f"{self._task} takes the session first: `async def {shown}(session, ...)`"
            )
        self._first = first.name
        self._rest = ""  # the name of what takes all others
        named = set()
        for parameter in parameters[1:]:
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(f"{self._task}: nothing gives {parameter} by position")
            if parameter.kind == parameter.VAR_KEYWORD:
                self._rest = parameter.name
            elif parameter.name in RESERVED:
                raise ValueError(
                    f"{self._task} cannot take {parameter.name!r}: submit() and schedule() do"
                )
            else:
                named.add(parameter.name)
        self._lock = None if lock is None else self._parts(lock, named)

    def take(self, given: Mapping[str, Any]) -> tuple[bytes, str]:
        """Returns arguments as JSON, and the lock that they make; empty where there is none.

        Raises TypeError for one that is missing, not taken or not JSON, ValueError for a lock
        that is empty or too long.
        """
        try:
            bound = self._signature.bind(None, **given)
        except TypeError as error:
            raise TypeError(f"{self._task}: {error}") from None
        items = (
            _json.encode(name, "a name") + b":" + _json.encode(value, self._argument(name))
            for name, value in given.items()
        )
        encoded = b"{" + b",".join(items) + b"}"
        if self._lock is None:
            return encoded, ""
        bound.apply_defaults()
        values = dict(bound.arguments)
        del values[self._first]
        values |= values.pop(self._rest, {})
        return encoded, self._locked(values)

    def _parts(self, template: str, named: set[str]) -> list[tuple[str, str | None]]:
        if not isinstance(template, str):
            raise TypeError(f"a lock is a string, not a {type(template).__qualname__}")
        try:
            parsed = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"the lock {template!r} of {self._task}: {error}") from None
        parts: list[tuple[str, str | None]] = []
        for text, field, spec, conversion in parsed:
            if field is not None and (spec or conversion or not field.isidentifier()):
                raise ValueError(
                    f"the lock {template!r} of {self._task} has more than {{name}} of an argument"
                )
            known = field in named or (self._rest and field != self._first)
            if field is not None and not known:
                raise ValueError(
                    f"the lock {template!r} of {self._task} names {field!r}, which is no argument"
                )
            parts.append((text, field))
        if not parts:
            raise ValueError(f"the lock of {self._task} is empty; None means none")
        return parts

    def _locked(self, values: Mapping[str, Any]) -> str:
        assert self._lock is not None
        made = []
        for text, field in self._lock:
            made.append(text)
            if field is None:
                continue
            if field not in values:
                raise TypeError(f"{self._task}: its lock needs the argument {field!r}")
            value = values[field]
            made.append(
                value
                if isinstance(value, str)
                else _json.encode(value, self._argument(field)).decode()
            )
        lock = "".join(made)
        if not 1 <= len(lock) <= _MAX_LOCK:
            raise ValueError(
                f"{self._task}: its lock is 1 to {_MAX_LOCK} characters, not {len(lock):,}"
            )
        return lock

    def _argument(self, name: str) -> str:
        return f"argument {name!r} of {self._task}"

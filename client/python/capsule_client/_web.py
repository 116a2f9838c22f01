"""Data and endpoint handlers: their declarations, their arguments, their answers."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from capsule_client.web import RequestContext

WebHandler = Callable[..., Awaitable[Any]]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DATA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SEGMENT = re.compile(r"\{[a-z_][a-z0-9_]*\}|[A-Za-z0-9_.~!$&'()*+,;=:@-]+")
_MAX_PATH = 500
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NONE = type(None)


class BadRequest(Exception):
    """An argument that the caller gave does not fit: answered by 400, naming it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A data or endpoint handler.

    Attributes:
        function: The handler.
        parameters: What it takes beside the context.
        authenticated: The sidecar lets nobody through who is not signed in.
        raw: It may answer with a Response.
    """

    function: WebHandler
    parameters: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]
    authenticated: bool
    raw: bool

    async def answer(self, context: RequestContext, given: Iterable[tuple[str, str]]) -> Any:
        """Calls the handler with what was given, converted.

        Raises BadRequest for what does not fit.
        """
        arguments = self._arguments(list(given))
        return await self.function(context, **arguments)

    def _arguments(self, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
        catch_all = any(p.kind == p.VAR_KEYWORD for p in self.parameters.values())
        named = {n: p for n, p in self.parameters.items() if p.kind != p.VAR_KEYWORD}
        texts: dict[str, list[str]] = {}
        for name, text in given:
            if name not in named and not catch_all:
                raise BadRequest(name, "is not taken here")
            texts.setdefault(name, []).append(text)
        arguments: dict[str, Any] = {}
        for name, values in texts.items():
            arguments[name] = _convert(name, values, self.hints.get(name, str))
        for name, parameter in named.items():
            if name not in arguments and parameter.default is parameter.empty:
                raise BadRequest(name, "is required")
        return arguments


def declare(
    function: Any, what: str, *, authenticated: bool, raw: bool, taken: Iterable[str] = ()
) -> Declared:
    """Sees to it that a function can be a data or endpoint handler.

    Raises TypeError for one that is not async, takes no context, or has parameters that nothing
    can be converted to.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{what} handlers are async functions: write `async def {name}(ctx, ...)`")
    parameters = dict(inspect.signature(function).parameters)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = next(iter(parameters.values()), None)
    if first is None or first.kind not in positional:
        raise TypeError(f"{what} handler {name} takes the context first: `async def {name}(ctx)`")
    del parameters[first.name]
    for parameter in parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise TypeError(f"{what} handler {name}: nothing gives {parameter} by position")
    hints = typing.get_type_hints(function)
    for each, hint in hints.items():
        if each in parameters and not _known(hint):
            raise TypeError(f"{what} handler {name}: nothing is converted to {each}: {hint}")
    for each in taken:
        catch_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        if each not in parameters and not catch_all:
            raise TypeError(f"{what} handler {name} does not take {each!r}, which its path names")
    return Declared(function, parameters, hints, authenticated, raw)


def check_data_name(name: str) -> str:
    """Returns a data handler's name. Raises ValueError for a malformed one."""
    if not _DATA_NAME.fullmatch(name):
        raise ValueError(f"a data handler's name is of the form {_DATA_NAME.pattern}, not {name!r}")
    return name


def check_route(method: str, path: str) -> tuple[str, list[str]]:
    """Returns an endpoint's route and the names in its path.

    Raises ValueError for a malformed one.
    """
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(sorted(METHODS))}, not {method!r}")
    segments = path.split("/")[1:]
    well = path == "/" or (path.startswith("/") and all(map(_SEGMENT.fullmatch, segments)))
    names = [part[1:-1] for part in segments if part.startswith("{")]
    if not well or len(path) > _MAX_PATH or len(set(names)) != len(names):
        raise ValueError(f"path is / or segments as /orders/{{order_id}}, not {path!r}")
    return f"{method} {path}", names


# -- arguments -------------------------------------------------------------------------------


def _known(hint: Any) -> bool:
    if hint in (str, int, float, bool, Decimal, UUID, datetime, date, Any, _NONE):
        return True
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return all(map(_known, parts))
    if origin is typing.Literal:
        return True
    return origin in (list, Sequence) and len(parts) == 1 and _known(parts[0])


def _convert(name: str, texts: list[str], hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, Sequence):
        return [_one(name, text, parts[0]) for text in texts]
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            if typing.get_origin(part) in (list, Sequence):
                return _convert(name, texts, part)
    if len(texts) > 1:
        raise BadRequest(name, "is given more than once")
    return _one(name, texts[0], hint)


def _one(name: str, text: str, hint: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_fitting(name, text, parts)
    if origin is typing.Literal:
        for option in parts:
            if text == str(option):
                return option
        raise BadRequest(name, f"must be one of {', '.join(map(str, parts))}")
    if hint in (str, Any):
        return text
    if hint is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise BadRequest(name, "must be true or false")
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if text in (str(member.value), member.name):
                return member
        raise BadRequest(name, f"must be one of {', '.join(str(m.value) for m in hint)}")
    return _parsed(name, text, hint)


_PARSERS: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    Decimal: (Decimal, "a decimal number"),
    UUID: (UUID, "a UUID"),
    datetime: (datetime.fromisoformat, "a time as 2026-01-31T12:00:00Z"),
    date: (date.fromisoformat, "a date as 2026-01-31"),
}


def _parsed(name: str, text: str, hint: Any) -> Any:
    parse, what = _PARSERS[hint]
    try:
        value = parse(text.strip() if hint in (int, float, Decimal) else text)
    except (ValueError, InvalidOperation, OverflowError):
        raise BadRequest(name, f"must be {what}") from None
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        raise BadRequest(name, "must be a finite number")
    return value


def _first_fitting(name: str, text: str, parts: tuple[Any, ...]) -> Any:
    fault: BadRequest | None = None
    # A string fits everything, so it is tried last.
    for part in sorted(parts, key=lambda part: part is str):
        if part is _NONE:
            continue
        try:
            return _one(name, text, part)
        except BadRequest as error:
            fault = fault or error
    assert fault is not None
    raise fault

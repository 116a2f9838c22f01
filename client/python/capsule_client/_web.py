"""Data and endpoint handlers, as they are declared and called."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from capsule_client._web_arguments import BadRequest, convert, known, many

WebHandler = Callable[..., Awaitable[Any]]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DATA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SEGMENT = re.compile(r"\{[a-z_][a-z0-9_]*\}|[A-Za-z0-9_.~!$&'()*+,;=:@-]+")
_NAME = re.compile(r"(?<=/)\{[^/]*\}")
_MAX_PATH = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """A data or endpoint handler.

    Attributes:
        function: The handler.
        context: The name of its first parameter, which no request gives.
        parameters: What it takes beside the context.
        hints: What these are converted to, where they say so.
        authenticated: The sidecar lets nobody through who is not signed in.
        raw: It may answer with a Response.
    """

    function: WebHandler
    context: str
    parameters: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]
    authenticated: bool
    raw: bool

    def arguments(self, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Returns what was given, converted.

        Raises BadRequest for what does not fit.
        """
        rest = next((p for p in self.parameters.values() if p.kind == p.VAR_KEYWORD), None)
        named = {n: p for n, p in self.parameters.items() if p is not rest}
        texts: dict[str, list[str]] = {}
        for name, text in given:
            if name == self.context or (name not in named and rest is None):
                raise BadRequest(name, "is not taken here")
            texts.setdefault(name, []).append(text)
        arguments: dict[str, Any] = {}
        for name, values in texts.items():
            hinted = name if name in named or rest is None else rest.name
            arguments[name] = convert(name, values, self.hints.get(hinted, str))
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
    # An object may be a handler too: by its __call__, as with the other kinds.
    called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(called):
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
    hints = _hints(called, parameters, f"{what} handler {name}")
    taken = list(taken)
    for each, hint in hints.items():
        if not known(hint) or (each in taken and many(hint)):
            raise TypeError(f"{what} handler {name}: nothing is converted to {each}: {hint}")
    catch_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    for each in taken:
        if each == first.name or (each not in parameters and not catch_all):
            raise TypeError(f"{what} handler {name} does not take {each!r}, which its path names")
    if what == "endpoint":
        for each, parameter in parameters.items():
            needed = (
                parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
            )
            if needed and each not in taken:
                raise TypeError(f"{what} handler {name}: its path names no {each!r}")
    return Declared(function, first.name, parameters, hints, authenticated, raw)


def _hints(called: Any, parameters: Mapping[str, inspect.Parameter], who: str) -> dict[str, Any]:
    """Returns the annotations of parameters; those of the context and the answer are nobody's."""
    written = {name: p.annotation for name, p in parameters.items() if p.annotation is not p.empty}
    shown = types.SimpleNamespace(__annotations__=written)
    module = getattr(inspect.unwrap(called), "__globals__", {})
    try:
        return typing.get_type_hints(shown, globalns=module)
    except NameError as error:
        raise TypeError(
            f"{who}: {error}; annotations of parameters name what the module has when it runs"
        ) from error


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
    well = well and not {".", ".."} & set(segments)  # no request has them
    names = [part[1:-1] for part in segments if part.startswith("{")]
    if not well or len(path) > _MAX_PATH or len(set(names)) != len(names):
        raise ValueError(f"path is / or segments as /orders/{{order_id}}, not {path!r}")
    return f"{method} {path}", names


def shape(route: str) -> str:
    """Returns a route without its names: what two routes have in common that take the same."""
    return _NAME.sub("{}", route)

"""Whether the walk is whole: each name of the session's document has a test that is for it."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import tests.integration.walk as walk
from tests.integration.walk.names import INTEGRATIONS, MISSING, PROMISED

EVERY = [name for names in PROMISED.values() for name in names]
LATER = INTEGRATIONS | MISSING.keys()


def steps() -> Iterator[tuple[str, Any]]:
    """Yields every test of the walk that says what it is for."""
    for module in pkgutil.iter_modules(walk.__path__):
        if module.name.startswith("test_"):
            found = importlib.import_module(f"{walk.__name__}.{module.name}")
            for name, function in vars(found).items():
                if name.startswith("test_") and hasattr(function, "walks"):
                    yield f"{module.name}.{name}", function


@functools.cache
def globals_of(module: str) -> dict[str, str]:
    """Returns the code of what a module of the walk defines, by name."""
    found: dict[str, str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [one for one in node.decorator_list if not is_mark(one)]
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found[ast.unparse(target)] = ast.unparse(node)
    return found


def is_mark(decorator: ast.expr) -> bool:
    """Says whether a decorator is `walks`."""
    return ast.unparse(decorator).startswith("walks(")


def source_of(function: Any) -> str:
    """Returns a test's code with that of its module's helpers, without what it says it is for."""
    code = globals_of(function.__module__)
    whole, waiting = "", [function.__name__]
    seen = set(waiting)
    while waiting:
        source = code[waiting.pop()]
        whole += source + "\n"
        used = {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
        fresh = (used & code.keys()) - seen
        seen |= fresh
        waiting += fresh
    return whole


def mentions(source: str, name: str) -> bool:
    """Says whether a test's code has a name's last part; a sentence's words stand for themselves.

    Of `ReplyStream.write`, `write`; of `App.task(lock=)`, `lock`; of `$eq`, all of it.
    """
    if " " in name and not name.startswith(("capsule-client", "find ")):
        return True
    part = re.split(r"[.( ]", name.rstrip("=)"))[-1].split("=")[0]
    return re.search(rf"(?<![\w$]){re.escape(part)}(?!\w)", source) is not None


def names_of(function: Any) -> tuple[str, ...]:
    """Returns what a test is for."""
    names: tuple[str, ...] = function.walks
    return names


WALKED = {
    name
    for _, function in steps()
    for name in names_of(function)
    if mentions(source_of(function), name)
}


@pytest.mark.parametrize("name", [name for name in EVERY if name not in LATER])
def test_a_promised_name_has_a_test_that_is_for_it(name: str) -> None:
    assert name in WALKED, f"no test of the walk is for {name!r} and mentions it"


def test_what_is_left_out_is_promised_and_has_no_test_yet() -> None:
    assert set(EVERY) >= LATER
    assert WALKED.isdisjoint(LATER), "it is there: take it off the list of what comes later"


def test_a_test_mentions_what_it_is_for() -> None:
    silent = [
        f"{where} of {name}"
        for where, function in steps()
        for name in names_of(function)
        if not mentions(source_of(function), name)
    ]
    assert silent == []

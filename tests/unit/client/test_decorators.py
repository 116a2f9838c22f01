"""Decorators of an `App` that are written wrong: the error is there at once, and shows how."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import capsule_client as capsule

# The name of each decorator, and how it is written.
FORMS = {
    "message": "@app.message()",
    "enter": "@app.enter()",
    "exit": "@app.exit()",
    "boot": "@app.boot()",
    "shutdown": "@app.shutdown()",
    "task": "@app.task()",
    "action": '@app.action("name")',
    "data": '@app.data("name")',
    "schedule": '@app.schedule("0 8 * * *")',
    "endpoint": '@app.endpoint("GET", "/path")',
}

# Those whose first argument is a string; what the others take is given by name, if at all.
STRINGS = ("action", "data", "schedule", "endpoint")


async def handle(session: capsule.Session) -> None: ...


def decorator(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(capsule.App("demo"), name)
    return found


def test_every_decorator_is_looked_at_here() -> None:
    # Decorators return what takes a function; App's other methods do not.
    methods = inspect.getmembers(capsule.App, inspect.isfunction)
    returns = {name: str(each.__annotations__.get("return", "")) for name, each in methods}
    found = {
        name
        for name, kind in returns.items()
        if not name.startswith("_") and kind.startswith("Callable[[")
    }
    assert found == set(FORMS)


@pytest.mark.parametrize(("name", "form"), FORMS.items())
def test_a_decorator_without_parentheses_is_refused_at_once_with_its_form(
    name: str, form: str
) -> None:
    words = f"@app.{name} is used without parentheses: write `{form}` above the function"
    with pytest.raises(TypeError, match=f"^{re.escape(words)}$"):
        decorator(name)(handle)


@pytest.mark.parametrize(("name", "form"), FORMS.items())
@pytest.mark.parametrize("wrong", [7, None, ["x"], b"x"])
def test_a_wrong_first_argument_of_a_decorator_is_refused_with_its_form(
    name: str, form: str, wrong: object
) -> None:
    with pytest.raises(
        TypeError, match=rf"^@app\.{name}: .*; write `{re.escape(form)}`$"
    ) as raised:
        # An endpoint's method is looked at where its path is there, too.
        decorator(name)(wrong, *(["/path"] if name == "endpoint" else []))
    if name in STRINGS:
        assert f"is a string, not a {type(wrong).__qualname__}" in str(raised.value)


@pytest.mark.parametrize("name", [name for name in FORMS if name not in STRINGS])
def test_a_decorator_that_takes_no_first_argument_is_given_one(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^@app\.{name}: too many positional arguments; write"):
        decorator(name)("morning")


@pytest.mark.parametrize("name", STRINGS)
def test_a_decorator_lacks_its_first_argument(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"^@app\.{name}: missing a required argument: '.*'; write"
    ):
        decorator(name)()


@pytest.mark.parametrize("name", FORMS)
def test_a_decorator_is_given_a_name_that_it_does_not_take(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^@app\.{name}: .*; write"):
        decorator(name)(**dict.fromkeys(("cron", "method", "path"), "x"), color="red")


@pytest.mark.parametrize("path", [None, handle, 5])
def test_an_endpoint_whose_path_is_no_string_is_refused_with_its_form(path: Any) -> None:
    with pytest.raises(TypeError, match=r"^@app\.endpoint: path is a string, not a .*; write"):
        decorator("endpoint")("GET", path)


def test_decorators_keep_their_signatures_for_editors_and_checkers() -> None:
    assert str(inspect.signature(capsule.App.message)).startswith("(self) -> ")
    assert list(inspect.signature(capsule.App.endpoint).parameters) == [
        "self",
        "method",
        "path",
        "authorized",
    ]

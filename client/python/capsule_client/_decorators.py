"""What holds for every decorator of an `App`: how it is written, told to whom writes it wrong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

C = TypeVar("C", bound=Callable[..., Any])


def written(form: str, *strings: str) -> Callable[[C], C]:
    """Makes a method a decorator that sees at once when it is written wrong.

    A decorator without its parentheses gets the function in place of its first argument, and would
    else declare nothing, in silence, until nobody is answered.

    Args:
        form: How it is written, as `@app.message()`.
        strings: Its parameters that are strings.

    The method raises TypeError with the form where it is used without parentheses, where arguments
    are missing or not taken, and where one of `strings` is none.
    """
    name = form.partition("(")[0]

    def wrap(method: C) -> C:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def checked(*args: Any, **kwargs: Any) -> Any:
            first = args[1] if len(args) > 1 else None
            if callable(first):
                raise TypeError(
                    f"{name} is used without parentheses: write `{form}` above the function"
                )
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{name}: {error}; write `{form}`") from None
            for each in strings:
                value = given.get(each, "")
                if not isinstance(value, str):
                    kind = type(value).__qualname__
                    raise TypeError(f"{name}: {each} is a string, not a {kind}; write `{form}`")
            return method(*args, **kwargs)

        return cast(C, checked)

    return wrap

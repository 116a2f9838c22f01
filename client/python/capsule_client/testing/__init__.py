"""Test handlers against a real sidecar, with simulated users and a clock that can be put forward.

>>> from capsule_client import testing
>>> async def test_greets() -> None:
...     async with testing.run(app) as kit:
...         ann = kit.user("ann")
...         await ann.say("hello")
...         assert await ann.reply() == "You said: hello"
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capsule_client.testing._kit import Kit, run
    from capsule_client.testing._shown import Ended, Item, Prompt
    from capsule_client.testing._user import User
    from capsule_client.testing._waiting import eventually

__all__ = ["Ended", "Item", "Kit", "Prompt", "User", "eventually", "run"]

# gRPC and the stubs are loaded when something is used: pytest finds the plugin of this package at
# every start, also of projects that merely have it installed.
_PLACES = {
    "Ended": "_shown",
    "Item": "_shown",
    "Kit": "_kit",
    "Prompt": "_shown",
    "User": "_user",
    "eventually": "_waiting",
    "run": "_kit",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)

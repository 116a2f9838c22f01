"""The apps that people can reach: declared ones, or those that have ever attached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from sqlalchemy import Connection, select

from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.names import APP_NAME
from capsule_sidecar.storage import schema
from capsule_sidecar.storage.journal import Journal

_LISTED = 200


class Apps:
    """Finds apps by name, without making any that nobody serves.

    Args:
        journal: Where they are kept.
        declared: The names of the configuration; empty where any app may attach.
        make: Returns an app's number, and makes the app where there is none.
    """

    def __init__(
        self,
        journal: Journal,
        declared: Collection[str],
        make: Callable[[str], Awaitable[int]],
    ) -> None:
        self._journal = journal
        self._declared = frozenset(declared)
        self._make = make
        self._seen: dict[str, int] = {}

    async def find(self, name: str) -> int:
        """Return an app's number.

        Raises:
            NotFound: It is not declared, or no handler of it was ever attached.
        """
        number = self._seen.get(name)
        if number is not None:
            return number
        if name in self._declared:
            number = await self._make(name)
        elif not self._declared and APP_NAME.fullmatch(name):
            apps = schema.apps.c

            def look_up(connection: Connection) -> int | None:
                return connection.execute(select(apps.id).where(apps.name == name)).scalar()

            number = await self._journal.read(look_up)
        if number is None:
            raise NotFound(
                "there is no such app here, or no handler of it was attached yet", app=name[:63]
            )
        self._seen[name] = number
        return number

    async def names(self) -> list[str]:
        """Return the names of the apps in order, at most 200."""
        if self._declared:
            return sorted(self._declared)[:_LISTED]
        names = schema.apps.c.name

        def look_up(connection: Connection) -> list[str]:
            return list(connection.execute(select(names).order_by(names).limit(_LISTED)).scalars())

        return await self._journal.read(look_up)

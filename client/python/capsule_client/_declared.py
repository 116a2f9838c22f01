"""The names that declarations have here, of which the sidecar speaks by their place in a hello."""

from __future__ import annotations

import re

from capsule_protocol.v1.handler_service_pb2 import Declarations

_PLACE = re.compile(r"hello\.declarations\.([a-z]+)\[([0-9]{1,6})\]")


def named(declarations: Declarations, field: str) -> str:
    """Returns the declaration that a field of the hello belongs to, as `schedule 'morning'`.

    Args:
        declarations: What the hello declared.
        field: The field's path, as `hello.declarations.schedules[2].cron`.

    Returns:
        Its kind and name; empty for another field, and for what was not declared.
    """
    place = _PLACE.match(field)
    if place is None:
        return ""
    kind, index = place[1], int(place[2])
    try:
        match kind:
            case "schedules":
                return f"schedule {declarations.schedules[index].name!r}"
            case "tasks":
                return f"task {declarations.tasks[index]!r}"
            case "collections":
                return f"collection {declarations.collections[index].collection.name!r}"
            case "data":
                return f"data handler {declarations.data[index].name!r}"
            case "endpoints":
                endpoint = declarations.endpoints[index]
                return f"endpoint '{endpoint.method} {endpoint.path}'"
    except IndexError:
        pass  # it speaks of what was never declared: its own words have to do
    return ""

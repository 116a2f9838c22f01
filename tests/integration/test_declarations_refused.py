"""A declaration that the sidecar refuses is named as its author knows it, not by its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import capsule_client as capsule
from capsule_client import _task_rules, _web
from capsule_client._declared import named
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.sidecar import running_sidecar

PLACES = "hello.declarations"
LONG = "n" * 129


async def morning(session: capsule.Session) -> None: ...


async def import_rows(session: capsule.Session) -> None: ...


async def stats(ctx: capsule.RequestContext) -> None: ...


def declare_well(app: capsule.App) -> None:
    """Declares one of each kind, so that what is refused is not the first one of its kind."""
    app.schedule("0 3 * * *", name="nightly")(morning)
    app.task(name="sync")(import_rows)
    app.collection("unindexed")  # of which a hello says nothing
    app.collection("notes", indexes=["kind"])
    app.data("first")(stats)
    app.endpoint("GET", "/first")(stats)


REFUSED: list[tuple[Callable[[capsule.App], Any], str, str]] = [
    (lambda app: app.schedule("soon")(morning), "schedule 'morning'", "schedules[1].cron"),
    (lambda app: app.schedule("0 0 31 2 *")(morning), "schedule 'morning'", "schedules[1].cron"),
    (
        lambda app: app.schedule("0 3 * * *", timezone="Europe/Atlantis", name="west")(morning),
        "schedule 'west'",
        "schedules[1].timezone",
    ),
    (lambda app: app.task(name=LONG)(import_rows), f"task '{LONG}'", "tasks[1]"),
    (
        lambda app: app.collection("threads", indexes=["kind", "a..b"]),
        "collection 'threads'",
        "collections[1].indexes[1]",
    ),
    (lambda app: app.data("no/name")(stats), "data handler 'no/name'", "data[1].name"),
    (lambda app: app.endpoint("TRACE", "/x")(stats), "endpoint 'TRACE /x'", "endpoints[1]"),
]


@pytest.mark.parametrize(("declare", "name", "place"), REFUSED)
async def test_a_refused_declaration_is_named_as_in_the_app(
    declare: Callable[[capsule.App], Any],
    name: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of these the client's own rules are no laxer than this sidecar's; another one's may be.
    monkeypatch.setattr(_task_rules, "_MAX_NAME", 1_000)
    monkeypatch.setattr(_web, "_DATA_NAME", re.compile(".*"))
    monkeypatch.setattr(_web, "METHODS", {*_web.METHODS, "TRACE"})
    async with running_sidecar(tmp_path) as running:
        app = capsule.App("demo", address=running.address, token=running.token)
        declare_well(app)
        declare(app)
        with pytest.raises(capsule.InvalidArgument) as raised:
            async with app.attached():
                pass
    error = raised.value
    assert str(error).startswith(f"{name}: {PLACES}.{place}")
    assert error.reason == "INVALID_ARGUMENT"
    assert error.metadata["field"].startswith(f"{PLACES}.{place}")
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "hello.app",
        f"{PLACES}.tasks",
        f"{PLACES}.tasks[7]",
        f"{PLACES}.actions[0]",
        f"{PLACES}.newer[0].name",
        f"{PLACES}.tasks[99999999999999999999]",
        f"command.{PLACES}.tasks[0]",
    ],
)
def test_a_field_that_is_no_declaration_has_no_name(field: str) -> None:
    assert named(pb.Declarations(tasks=["sync"], actions=["more"]), field) == ""

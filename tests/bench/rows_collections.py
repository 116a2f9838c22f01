"""Finding documents by a declared index, beside the same SQL written by hand."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

from tests.bench.harness import Line, Settings, alternate, at_most
from tests.bench.processes import BenchError, Stage
from tests.bench.questions import KINDS
from tests.bench.sides import Sidecar
from tests.support.postgres import postgres_server

STORED = 100_000
BY_HAND = (
    "the same SQL by hand, same database, driver and threads; documents as dicts on both sides"
)
WORDS = {"equal": "an equality", "range": "a range"}


def collections(settings: Settings) -> list[Line]:
    """A find in the sidecar, which is held; and the client's, over gRPC, which is reported."""
    inside = {
        kind: Line(f"p50 of {word}, 20 of {STORED:,}", "us", BY_HAND, at_most(2))
        for kind, word in WORDS.items()
    }
    across = {
        kind: Line(f"p50 of {word}, by the client", "us", BY_HAND, note="with gRPC both ways")
        for kind, word in WORDS.items()
    }
    count = settings.count(1_000)
    with Stage() as stage:
        folder = stage.folder()
        documents = stage.worker("documents", str(folder / "documents.db"))
        documents.ask("fill", count=STORED)
        finder = None
        if not settings.floors_only:
            home = folder / "home"
            home.mkdir(0o700)
            shutil.copy(folder / "documents.db", home / "capsule.db")
            sidecar = Sidecar(stage, home)
            env = {"CAPSULE_ADDRESS": sidecar.target, "CAPSULE_TOKEN": sidecar.token}
            finder = stage.worker("finder", env=env)

        for kind in KINDS:

            def by_hand(kind: str = kind) -> Any:
                return documents.ask("by_hand", kind=kind, count=count)

            def ours(kind: str = kind) -> dict[str, Any]:
                assert finder is not None
                found = documents.ask("find", kind=kind, count=count)
                theirs = finder.ask("find", kind=kind, count=count)
                return {"inside": found, "across": theirs}

            def take(bare: Any, both: Any, kind: str = kind) -> None:
                if both is None:
                    inside[kind].add(bare["p50"] * 1e6, None)
                    return
                for line, mine in ((inside, both["inside"]), (across, both["across"])):
                    if mine["found"] != bare["found"]:
                        raise BenchError(f"{mine['found']} documents, by hand {bare['found']}")
                    line[kind].add(bare["p50"] * 1e6, mine["p50"] * 1e6)

            alternate(settings.rounds, by_hand, ours if finder is not None else None, take)
    lines = [*inside.values(), *across.values()]
    return [line for line in lines if line.floor]


def collections_postgresql(settings: Settings) -> list[Line]:
    """A find on PostgreSQL; the server is a private one."""
    lines = {
        kind: Line(f"p50 of {word}, 20 of {STORED:,}", "us", BY_HAND, at_most(2))
        for kind, word in WORDS.items()
    }
    count = settings.count(1_000)
    with postgres_server() as url, Stage() as stage:
        documents = stage.worker("documents", url)
        documents.ask("fill", count=STORED)
        for kind in KINDS:

            def ask(command: str, kind: str = kind) -> Any:
                return documents.ask(command, kind=kind, count=count)

            def take(bare: Any, mine: Any, kind: str = kind) -> None:
                if mine is not None and mine["found"] != bare["found"]:
                    raise BenchError(f"{mine['found']} documents, by hand {bare['found']}")
                ours = None if mine is None else mine["p50"] * 1e6
                lines[kind].add(bare["p50"] * 1e6, ours)

            alternate(
                settings.rounds,
                partial(ask, "by_hand"),
                None if settings.floors_only else partial(ask, "find"),
                take,
            )
    return [line for line in lines.values() if line.floor]

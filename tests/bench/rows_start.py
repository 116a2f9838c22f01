"""Starting: the client's import, the sidecar's start, what it holds when idle."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.harness import Line, Settings, alternate, at_most
from tests.bench.processes import COMPILED, Stage
from tests.bench.sides import start_sidecar

TIMER = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
MIB = 1 << 20


def seconds_to_import(module: str) -> float:
    """Returns how long a fresh interpreter takes to import a module."""
    done = subprocess.run(
        [sys.executable, "-c", TIMER.format(module)],
        env={**os.environ, **COMPILED},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def imports(settings: Settings) -> list[Line]:
    """`import capsule_client` beside `import grpc`."""
    line = Line("import capsule_client", "ms", "import grpc", at_most(1.3))
    alternate(
        2 * settings.rounds + 1,
        lambda: seconds_to_import("grpc") * 1e3,
        None if settings.floors_only else lambda: seconds_to_import("capsule_client") * 1e3,
        line.add,
    )
    return [line]


def start(settings: Settings) -> list[Line]:
    """From start to ready, on a new home and on one that exists; memory when idle."""
    if settings.floors_only:
        return []
    new = Line("start to ready, new home", "s", None, at_most(1.5))
    again = Line("start to ready, its second start", "s", None, at_most(1.5))
    memory = Line("idle memory (RSS)", "MiB", None, at_most(100))
    for number in range(settings.rounds + 1):
        with Stage() as stage:
            home = stage.folder() / "home"
            for line in (new, again):
                server, _ready = start_sidecar(stage, home, COMPILED)
                if number:
                    line.add(None, server.age)
                    memory.add(None, server.rss() / MIB)
                server.stop()
    return [new, again, memory]

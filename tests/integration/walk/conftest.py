"""The one sidecar of the walk: a process that serves every test of a worker, each its own app."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sidecar import Running


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running sidecar on a temporary home; its times are the usual ones but for these."""
    home = tmp_path_factory.mktemp("walk")
    variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
    variables |= {
        "CAPSULE_TIMING__SWEEP_INTERVAL": "0.1",  # prompts expire, tasks begin, when they are due
        "CAPSULE_TIMING__STOP_GRACE": "2",
        "CAPSULE_LIMITS__GUESTS_PER_MINUTE": "100000",  # they all come from one address
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("capsule-sidecar")), "serve",
                "--home", str(home), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0",
            ],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready grpc="), line + (home / "log").read_text()
            told = dict(pair.split("=", 1) for pair in line.split()[1:])
            http = told["http"]
            token = (home / "token").read_text().strip()
            yield Running(told["grpc"], home, token, http=http)
        finally:
            process.terminate()
            process.communicate(timeout=30)

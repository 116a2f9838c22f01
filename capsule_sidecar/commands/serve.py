"""`capsule-sidecar serve`: run the sidecar."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from capsule_sidecar.config import ConfigError, load_settings
from capsule_sidecar.home import HomeError


def serve(config: Path | None, home: Path | None, grpc: str | None, http: str | None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code: 2 for settings that are wrong."""
    try:
        settings = load_settings(config, home=home, grpc=grpc, http=http)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # Of an address that it cannot have, gRPC's core would tell in lines of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # What serves is large: not loaded by the other commands.
    from capsule_sidecar import sidecar

    try:
        return sidecar.run(settings)
    except HomeError as error:
        sys.stderr.write(f"{error}\n")
        return 1

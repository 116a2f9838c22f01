"""`capsule-sidecar serve`: run the sidecar."""

from __future__ import annotations

import gc
import os
import resource
import sys
from pathlib import Path

from capsule_sidecar.config import ConfigError, load_settings
from capsule_sidecar.home import HomeError
from capsule_sidecar.life import inherited

MAX_FILES = 65_536  # more than all connections that are ever taken


def serve(config: Path | None, home: Path | None, grpc: str | None, http: str | None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code: 2 for settings that are wrong.

    Under `dev`, the end of that is as a signal.
    """
    life_fd = inherited()
    try:
        settings = load_settings(config, home=home, grpc=grpc, http=http)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    # Of an address that it cannot have, gRPC's core would tell in lines of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _allow_many_connections()
    # What serves is large: not loaded by the other commands.
    from capsule_sidecar import sidecar

    _collect_seldom()
    try:
        return sidecar.run(settings, life_fd)
    except HomeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _collect_seldom() -> None:
    """Has the collector of cycles pass over what was loaded, and look at the rest less often.

    What a group of commands makes is freed without it, but lives longer than 700 new objects: at
    that threshold, Python's own, the collector took a tenth of a busy sidecar's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _allow_many_connections() -> None:
    """Raises the number of open files to what the system lets this process have, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # some systems allow less than they say: the server keeps within what there is

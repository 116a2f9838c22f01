"""`capsule-client`: runs an app from the shell."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from capsule_client._process import configure
from capsule_client.app import App

if TYPE_CHECKING:
    from collections.abc import Sequence

# How a parent and its child know of each other: file descriptors of two pipes. The parent is a
# reloading one, or `capsule-sidecar dev`, which has the second only.
READY_FD = "CAPSULE_READY_FD"  # the child writes here once it is attached and booted
LIFE_FD = "CAPSULE_LIFE_FD"  # ends when the parent does, however that comes about


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="capsule-client", description="Capsule apps in Python.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="attach an app to the sidecar and serve")
    run.add_argument("target", help="FILE.py:NAME or MODULE:NAME of the App, as app.py:app")
    run.add_argument(
        "--reload",
        action="store_true",
        help="start anew when a file changes; the old process finishes what it has",
    )
    options = parser.parse_args(arguments)
    configure()
    if options.reload:
        from capsule_client._reload import Reloader

        return asyncio.run(Reloader(options.target, _fd(LIFE_FD)).run())
    try:
        app = load(options.target)
    except TargetError as error:
        parser.exit(2, f"capsule-client: {error}\n")
    try:
        app.serve_process(_say_ready, life_fd=_fd(LIFE_FD))
    except KeyboardInterrupt:
        return 130
    return 0


class TargetError(Exception):
    """The target names no app."""


def load(target: str) -> App:
    """Imports the app that `FILE.py:NAME` or `MODULE:NAME` names.

    Raises TargetError where there is none, and whatever importing it raises.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise TargetError(f"{target!r} is not of the form FILE.py:NAME or MODULE:NAME")
    path = source_of(where)
    if path is not None:
        module = _import_file(path)
    else:
        sys.path.insert(0, str(Path.cwd()))
        if importlib.util.find_spec(where.partition(".")[0]) is None:
            raise TargetError(f"there is no module {where!r}")
        module = importlib.import_module(where)
    app = getattr(module, name, None)
    if not isinstance(app, App):
        raise TargetError(f"{name!r} in {where} is no capsule_client.App")
    return app


def source_of(where: str) -> Path | None:
    """Returns the file that a target names; None where it names a module.

    Raises TargetError for a file that is not there.
    """
    if not where.endswith(".py") and os.sep not in where:
        return None
    path = Path(where).resolve()
    if not path.is_file():
        raise TargetError(f"there is no file {where}")
    return path


def _import_file(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _fd(name: str) -> int | None:
    number = os.environ.pop(name, "")
    return int(number) if number else None


def _say_ready() -> None:
    ready = _fd(READY_FD)
    if ready is not None:
        os.write(ready, b"ready\n")
        os.close(ready)


if __name__ == "__main__":
    sys.exit(main())

"""A process that has loaded the sidecar and forks one whenever it is asked to.

Loading takes most of a sidecar's start. Run as a program: each line of its standard input is a
JSON object that says what to run and where; its end, or an empty line, is the end of all that it
has forked. It has one thread while it forks, so that nothing is forked halfway.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

# What `serve` loads when it runs.
_LOADED = ("capsule_sidecar.cli", "capsule_sidecar.commands.serve", "capsule_sidecar.sidecar")


def main() -> None:
    """Loads the sidecar, then forks by order until standard input ends."""
    # Ctrl-C is for the tests, who end us; children need not be waited for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in _LOADED:
        import_module(name)
    born: dict[int, Path] = {}
    while (line := sys.stdin.buffer.readline()).strip():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_live(order))
        born[child] = Path(order["folder"])
    for child, folder in born.items():
        try:
            # Of those that are gone the number may be another's by now: ours alone are waited for.
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # gone
        # Who asked for it removes it, unless that one was killed.
        shutil.rmtree(folder, ignore_errors=True)


def _live(order: dict[str, Any]) -> int:
    """Runs a sidecar in a forked process; returns its exit code."""
    folder = Path(order["folder"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["capsule-sidecar", *order["arguments"]]
    _say(folder / "pid", os.getpid())
    code: object = 0
    try:
        import_module("capsule_sidecar.cli").main()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends with it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    ended = code if isinstance(code, int) else int(code is not None)
    _say(folder / "code", ended)
    return ended


def _say(path: Path, number: int) -> None:
    """Writes a number at once: whoever finds the file finds it whole."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(str(number), encoding="ascii")
    draft.rename(path)


if __name__ == "__main__":
    main()

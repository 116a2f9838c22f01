"""A sidecar that ends with who started it, also where that one was killed and could not end it.

Run as a program, as `capsule-sidecar` with the same arguments, in a folder of its own: its standard
input is a pipe that nobody writes to, and whose end is the end of it and of that folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Runs the sidecar."""
    # A thread, not the loop: it holds while the sidecar starts, and when its loop is busy.
    threading.Thread(target=_watch, args=(Path.cwd(),), name="tied", daemon=True).start()
    sys.argv[0] = "capsule-sidecar"
    import_module("capsule_sidecar.cli").main()


def _watch(folder: Path) -> None:
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()

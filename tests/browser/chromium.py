"""Debian's Chromium, headless: one process for a run of tests, a new profile for each test.

Tests connect to it by its debugging port; so nothing depends on which release of Chromium the
installed Playwright would have brought itself.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "/usr/bin/chromium"
START = 60.0  # seconds
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
    "--disable-search-engine-choice-screen", "--password-store=basic", "--use-mock-keychain",
    "--hide-scrollbars", "--mute-audio", "--force-color-profile=srgb", "--lang=en-US",
    # Of two windows one is behind the other, and is to be served all the same.
    "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling", "--disable-ipc-flooding-protection",
    "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
_LISTENS = re.compile(r"DevTools listening on ws://([^/]+)/")


@contextmanager
def chromium() -> Iterator[str]:
    """Runs the browser; gives the address that tests connect to, as `http://127.0.0.1:9222`.

    Raises FileNotFoundError where there is none, TimeoutError where it does not come up.
    """
    program = shutil.which("chromium") or PROGRAM
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *ARGUMENTS[:-1], f"--user-data-dir={profile}/data", ARGUMENTS[-1]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield f"http://{_address(process, log)}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    pause = threading.Event()
    for _ in range(int(START / 0.05)):
        said = log.read_text("utf-8", "replace")
        found = _LISTENS.search(said)
        if found:
            return found[1]
        if process.poll() is not None:
            raise RuntimeError(f"Chromium ended by itself:\n{said[-2000:]}")
        pause.wait(0.05)
    raise TimeoutError(f"Chromium did not come up:\n{log.read_text('utf-8', 'replace')[-2000:]}")

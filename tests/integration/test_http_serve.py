"""What `capsule-sidecar serve` says of its HTTP side."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import httpx

from tests.support.sidecar import SidecarProcess


async def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("capsule-sidecar")),
            "serve", "--home", str(tmp_path), "--grpc", "127.0.0.1:0", "--http", http,
            env={k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert not out
    (line,) = [text for text in said.decode().splitlines() if http in text]
    assert line.startswith(f"{http} cannot be served: Address already in use")
    assert "--http" in line
    assert "Traceback" not in said.decode()


async def test_it_says_where_http_is_once_it_answers_there(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as sidecar:
        running = await sidecar.start()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{running.http}/healthz")).json() == {"status": "ok"}
            assert (await client.get(f"{running.http}/metrics")).status_code == 200
        assert await sidecar.end() == 0

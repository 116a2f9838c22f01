"""What the Python client promises of old versions: its dependencies' floors, and Python's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "client" / "python"

# Runs in an environment that holds the floors and nothing else.
ROUND_TRIP = """
import asyncio, importlib, pkgutil
import grpc
import capsule_client, capsule_protocol.v1 as package

for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{module.name}")

from capsule_protocol.v1 import session_service_pb2 as messages
from capsule_protocol.v1 import session_service_pb2_grpc as stubs

class Sessions(stubs.SessionServiceServicer):
    async def GetSession(self, request, context):
        return messages.GetSessionResponse()

async def main():
    server = grpc.aio.server()
    stubs.add_SessionServiceServicer_to_server(Sessions(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = stubs.SessionServiceStub(channel)
        answer = await stub.GetSession(messages.GetSessionRequest(), timeout=10)
    await server.stop(None)
    print(type(answer).__name__, grpc.__version__)

asyncio.run(main())
"""


def _floors() -> dict[str, str]:
    declared = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]
    pairs = [re.match(r"([\w-]+)>=([\d.]+)", line) for line in declared]
    return {pair[1]: pair[2] for pair in pairs if pair is not None}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_the_client_depends_on_three_packages_and_the_tested_floors_are_theirs() -> None:
    listed = (ROOT / "scripts" / "tools" / "floors.in").read_text()
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", listed, flags=re.MULTILINE))
    assert set(tested) == {"googleapis-common-protos", "grpcio", "protobuf"}
    floors = _floors()
    assert set(floors) == set(tested)
    for name, floor in floors.items():
        assert _version(tested[name])[: len(_version(floor))] == _version(floor), name


def test_generated_code_asks_for_nothing_newer_than_the_floors() -> None:
    floors = _floors()
    files = list((CLIENT / "capsule_protocol").rglob("*.py"))
    text = "\n".join(path.read_text() for path in files)
    grpc_asked = set(re.findall(r"GRPC_GENERATED_VERSION = '([\d.]+)'", text))
    assert grpc_asked, "no service was generated"
    for version in grpc_asked:
        assert _version(version)[:2] <= _version(floors["grpcio"])[:2]
    checks = re.findall(r"Domain\.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+),", text)
    assert checks, "no message was generated"
    for check in set(checks):
        assert tuple(int(part) for part in check) <= _version(floors["protobuf"])


def test_a_call_goes_through_with_the_oldest_versions_promised() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "toolbox.py", "floors"],
        capture_output=True,
        text=True,
        check=True,
    )
    done = subprocess.run(
        [made.stdout.strip(), "-W", "error", "-c", ROUND_TRIP],
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["GetSessionResponse", "1.74.0"]

"""The sides of live events: Chainlit, a hand-written endpoint, and the sidecar over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.bench.processes import ROOT, START_TIMEOUT, BenchError, Proc, Stage, Worker
from tests.bench.sides import APP, Sidecar

CHAINLIT_APP = ROOT / "tests" / "bench" / "peers" / "chainlit_app.py"
TOOLBOX = ROOT / "scripts" / "toolbox.py"
# What bounds one person, or one address, is not what is measured.
OPEN_LIMITS = {
    f"CAPSULE_LIMITS__{name}": "1000000"
    for name in (
        "FOLLOWERS_PER_USER", "MESSAGES_PER_MINUTE", "SESSIONS_PER_MINUTE", "GUESTS_PER_MINUTE",
        "REQUESTS_PER_MINUTE",
    )
}  # fmt: skip


class Side:
    """A server of chats with its browsers, each in a process."""

    name: str
    # What a round streams in all: about a second.
    tokens: int
    server: Proc
    browsers: Worker

    def job(self, tokens: int, interval: float = 0.0) -> str:
        """Returns the message that asks for `tokens`, one every `interval` s."""
        return json.dumps({"count": tokens, "interval": interval})

    def used(self) -> float:
        """Returns the CPU seconds spent so far on the serving side."""
        return self.server.cpu()

    def run(self, each: int, *, shared: bool = False) -> dict[str, Any]:
        """Streams `each` tokens in every chat; adds `cpu`, in seconds a token delivered."""
        before = self.used()
        more = {"shared": True} if shared else {}
        result: dict[str, Any] = self.browsers.ask("run", text=self.job(each), tokens=each, **more)
        result["cpu"] = (self.used() - before) / result["tokens"]
        return result

    def first(self, count: int, tokens: int, interval: float) -> float:
        """Returns the median time to a first token, in seconds, one message at a time."""
        text = self.job(tokens, interval)
        result = self.browsers.ask("first_tokens", text=text, tokens=tokens, count=count)
        return float(result["p50"])

    def memory_of(self, count: int) -> float:
        """Adds browsers up to `count`; returns the bytes that each took of the server's memory."""
        before = self.server.rss()
        self.browsers.ask("open", count=count)
        return (self.server.rss() - before) / count


class Chainlit(Side):
    """Its current release, as `chainlit run` serves it; its page's protocol on the other side."""

    name = "Chainlit"
    tokens = 30_000

    def __init__(self, stage: Stage, env: Mapping[str, str] | None = None) -> None:
        python = _environment()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.server = stage.proc(
            [python, "-m", "chainlit", "run", str(CHAINLIT_APP), "--headless"],
            {
                "CHAINLIT_APP_ROOT": str(stage.folder()),
                "CHAINLIT_HOST": "127.0.0.1",
                "CHAINLIT_PORT": str(port),
                "OTEL_SDK_DISABLED": "true",
                "TRACELOOP_TELEMETRY": "false",
                **(env or {}),
            },
        )
        _until_listening(port)
        self.browsers = stage.worker(
            "peers.chainlit_browsers", f"http://127.0.0.1:{port}", python=python
        )


class Starlette(Side):
    """An endpoint as one writes it by hand."""

    name = "bare Starlette"
    tokens = 150_000

    def __init__(self, stage: Stage, env: Mapping[str, str] | None = None) -> None:
        server = stage.worker("peers.starlette_server", env=env)
        self.server = server
        self.browsers = stage.worker("browsers", "tokens", server.ready["target"], "")


class Capsule(Side):
    """The sidecar and an app's process."""

    name = "sidecar"
    tokens = 600_000

    def __init__(
        self, stage: Stage, env: Mapping[str, str] | None = None, kind: str = "frames"
    ) -> None:
        self.sidecar = Sidecar(stage, env={**OPEN_LIMITS, **(env or {})})
        self.server = self.sidecar.server
        self.app = self.sidecar.app()
        self.browsers = stage.worker("browsers", kind, self.sidecar.http, f"/apps/{APP}")

    def job(self, tokens: int, interval: float = 0.0) -> str:
        job = {"job": "deltas", "count": tokens, "interval": interval}
        return json.dumps({**job, "begin": 0, "stamped": False})

    def used(self) -> float:
        # A peer's app runs inside its server.
        return self.server.cpu() + self.app.cpu()

    def run(self, each: int, *, shared: bool = False) -> dict[str, Any]:
        own = self.server.cpu()
        result = super().run(each, shared=shared)
        result["own_cpu"] = (self.server.cpu() - own) / result["tokens"]
        for _ in range(1 if shared else result["tokens"] // each):
            self.app.answer()
        return result

    def first(self, count: int, tokens: int, interval: float) -> float:
        taken = super().first(count, tokens, interval)
        for _ in range(count):
            self.app.answer()
        return taken


def _environment() -> str:
    """Returns the interpreter that has Chainlit; makes its environment when it is not there."""
    done = subprocess.run(
        [sys.executable, str(TOOLBOX), "chainlit"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"no environment for Chainlit:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def _until_listening(port: int) -> None:
    end = time.perf_counter() + START_TIMEOUT
    while time.perf_counter() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"nothing listens on port {port} after {START_TIMEOUT:g} s")

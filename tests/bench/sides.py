"""The two sides of a comparison: a floor with its load, and a sidecar with app and people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.processes import Proc, Stage, Worker

APP = "bench"
IDENTITY = "terminal:bench"
STOP_TIMEOUT = 60.0


class Floor:
    """A bare server and its client, each in a process."""

    def __init__(self, stage: Stage, *, batched: bool = True) -> None:
        self._stage = stage
        mode = "batched" if batched else "single"
        self.batched = batched
        self.server: Worker = stage.worker("floor_server", mode, str(stage.folder()))
        self.target: str = self.server.ready["target"]
        self.client = stage.worker("floor_client", self.target)

    def followers(self) -> Worker:
        """Starts a process of followers."""
        return self._stage.worker("followers", self.target, IDENTITY)


class Sidecar:
    """A sidecar on a home of its own, and what is attached to it."""

    def __init__(
        self, stage: Stage, home: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._stage = stage
        self.home = home or stage.folder() / "home"
        self.server, ready = start_sidecar(stage, self.home, env)
        self.target = ready["grpc"]
        self.http = ready["http"].removeprefix("http://")
        self.token = (self.home / "token").read_text().strip()
        self._app: Worker | None = None
        self._people: Worker | None = None

    def metadata(self, app: str = APP) -> list[str]:
        """Returns what every call carries."""
        return [f"authorization=Bearer {self.token}", f"capsule-app={app}"]

    def app(self, stream_interval: float | None = None) -> Worker:
        """Returns the handler process, attached."""
        if self._app is None:
            env = {"CAPSULE_ADDRESS": self.target, "CAPSULE_TOKEN": self.token}
            if stream_interval is not None:
                env["BENCH_STREAM_INTERVAL"] = str(stream_interval)
            self._app = self._stage.worker("app", env=env)
        return self._app

    def people(self, app: str = APP) -> Worker:
        """Returns a process of people."""
        return self._stage.worker("people", self.target, IDENTITY, *self.metadata(app))

    @property
    def person(self) -> Worker:
        """The process that opens sessions and gives jobs."""
        if self._people is None:
            self._people = self.people()
        return self._people

    def followers(self) -> Worker:
        """Starts a process of followers."""
        return self._stage.worker("followers", self.target, IDENTITY, *self.metadata())

    def raw_handler(self, app: str) -> Worker:
        """Starts a handler on bare stubs, attached for `app`."""
        return self._stage.worker("raw_handler", self.target, app, *self.metadata(app))

    def asker(self, app: str, concurrency: int) -> Worker:
        """Starts a handler that asks people, and the people, attached for `app`."""
        return self._stage.worker("asker", self.target, app, str(concurrency), *self.metadata(app))

    def give(self, sessions: list[str], job: str, **arguments: object) -> None:
        """Has the app start a job in each session."""
        self.app()
        text = json.dumps({"job": job, **arguments})
        self.person.ask("send", sessions=sessions, text=text)

    def do(self, session: str, job: str, **arguments: object) -> dict[str, Any]:
        """Has the app do a job in a session, and returns its result."""
        self.give([session], job, **arguments)
        result: dict[str, Any] = self.app().answer()
        return result


def start_sidecar(
    stage: Stage, home: Path, env: Mapping[str, str] | None = None
) -> tuple[Proc, dict[str, str]]:
    """Starts a sidecar; returns it with its addresses, as `grpc` and `http`, once it serves."""
    program = Path(sys.executable).parent / "capsule-sidecar"
    server = stage.proc(
        [str(program), "serve", "--home", str(home), "--grpc", "127.0.0.1:0"],
        {"CAPSULE_HTTP": "127.0.0.1:0", "CAPSULE_LOG__LEVEL": "warning", **(env or {})},
    )
    words = server.line().split()
    return server, dict(word.split("=", 1) for word in words[1:])

"""Data and endpoint requests while processes are killed and frozen, and callers go away."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import Report
from tests.support.eventually import eventually
from tests.support.http import Line
from tests.support.ports import steady_port
from tests.support.sidecar import Running, SidecarProcess

_ROOT = Path(__file__).parents[2]
_REQUESTS, _AT_ONCE, _PLACES = 1_000, 64, 16
_SETTINGS = {
    "CAPSULE_LIMITS__REQUESTS_PER_MINUTE": "1000000",
    # Longer than anything here takes, but for what waits for them to be over.
    "CAPSULE_TIMING__REQUEST_DEADLINE": "20s",
    "CAPSULE_TIMING__BODY_TIMEOUT": "8s",
}


class Stage:
    """A sidecar process and the handler processes of one app."""

    def __init__(self, sidecar: SidecarProcess, running: Running, directory: Path) -> None:
        self.sidecar = sidecar
        self.running = running
        self.directory = directory
        self.handlers: list[asyncio.subprocess.Process] = []
        self.http = httpx.AsyncClient(
            base_url=f"{running.http}/apps/support", trust_env=False, timeout=30,
            limits=httpx.Limits(max_connections=_AT_ONCE),
        )  # fmt: skip

    async def handler(self, places: int = _PLACES) -> asyncio.subprocess.Process:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.web_app", cwd=_ROOT,
            env=variables | {
                "CAPSULE_ADDRESS": self.running.address, "CAPSULE_TOKEN": self.running.token,
                "FAULTS_GATES": str(self.directory), "FAULTS_PLACES": str(places),
            },
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.handlers.append(process)
        return process

    async def serves(self, timeout: float = 20) -> None:
        """Waits until a request is answered."""

        async def answers() -> bool:
            try:
                return (await self.http.get("/data/echo?n=1")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, timeout=timeout)

    async def figure(self, name: str) -> float:
        """Returns a figure of the sidecar's."""
        headers = {"authorization": f"Bearer {self.running.token}"}
        text = (await self.http.get(f"{self.running.http}/metrics", headers=headers)).text
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    async def asked(self, count: int) -> None:
        """Waits until so many requests are with handlers."""

        async def there() -> bool:
            return await self.figure("capsule_web_calls") == count

        await eventually(there, timeout=15)

    async def has_every_place(self, places: int) -> None:
        """Checks that as many requests as there are places are answered at once, no more."""
        await self.asked(0)
        (self.directory / "open").unlink(missing_ok=True)
        held = [asyncio.create_task(self.http.get("/data/hold")) for _ in range(places + 3)]
        await self.asked(places)

        async def wait() -> bool:
            return await self.figure("capsule_web_calls_waiting") == 3

        await eventually(wait, timeout=15)
        assert await self.figure("capsule_web_calls") == places
        (self.directory / "open").touch()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}


@asynccontextmanager
async def staged(directory: Path, **settings: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        sidecar = SidecarProcess(
            directory / "home", port=steady_port(), http_port=steady_port(),
            environment=_SETTINGS | settings,
        )  # fmt: skip
        await stack.enter_async_context(sidecar)
        stage = Stage(sidecar, await sidecar.start(), directory)
        await stack.enter_async_context(stage.http)
        try:
            yield stage
        finally:
            for process in stage.handlers:
                if process.returncode is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    await process.wait()


async def test_a_killed_handler_is_502_and_the_next_one_answers(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        process = await stage.handler()
        await stage.serves()
        held = [asyncio.create_task(stage.http.get("/data/hold")) for _ in range(5)]
        await stage.asked(5)
        process.kill()
        for answer in await asyncio.gather(*held):
            assert (answer.status_code, answer.json()["reason"]) == (502, "HANDLER_LOST")
        away = await stage.http.get("/data/echo?n=1")
        assert (away.status_code, away.json()["reason"]) == (503, "NO_HANDLER")
        await stage.handler()
        await stage.serves()
        await stage.has_every_place(_PLACES)


async def test_a_killed_sidecar_ends_connections_and_answers_again(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.handler()
        await stage.serves()
        held = [asyncio.create_task(stage.http.get("/data/hold")) for _ in range(5)]
        await stage.asked(5)
        await stage.sidecar.kill()
        for error in await asyncio.gather(*held, return_exceptions=True):
            assert isinstance(error, httpx.TransportError), error
        await stage.sidecar.start()
        await stage.serves()  # by the same process, which has attached again
        (tmp_path / "open").touch()  # what it still runs of before ends
        await stage.has_every_place(_PLACES)


@pytest.mark.deadline(180)
async def test_a_frozen_handler_is_504_and_answers_when_it_thaws(
    tmp_path: Path, report: Report
) -> None:
    async with staged(tmp_path, CAPSULE_TIMING__REQUEST_DEADLINE="5s") as stage:
        process = await stage.handler()
        await stage.serves()
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        asked = [stage.http.get(f"/data/echo?n={n}") for n in range(_PLACES + 4)]
        answers = await asyncio.gather(*asked)
        waited = time.monotonic() - began
        for answer in answers:
            assert (answer.status_code, answer.json()["reason"]) == (504, "DEADLINE")
        process.send_signal(signal.SIGCONT)
        await stage.serves()
        await stage.has_every_place(_PLACES)
        report(f"{len(answers)} requests to a frozen handler answered 504 within {waited:.2f} s")


async def test_a_caller_that_sends_slowly_costs_no_place(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.handler(places=1)
        await stage.serves()
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"x" * 10
            await go_on.wait()
            yield b"x" * 10

        slow = asyncio.create_task(stage.http.post("/api/size", content=slowly()))
        for n in range(20):
            assert (await stage.http.get(f"/data/echo?n={n}")).json() == n
        go_on.set()
        assert (await slow).json() == 20
        async with Line(stage.running) as line:
            head = f"POST /apps/support/api/size HTTP/1.1\r\nhost: {line.host}\r\n"
            await line.send(f"{head}content-length: 20\r\n\r\nxxx")
            stuck = await line.answer(timeout=20)
            assert (stuck.status, stuck.reason) == (408, "REQUEST_TIMEOUT")


async def test_callers_that_go_away_leave_their_places(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.handler()
        await stage.serves()
        held = [asyncio.create_task(stage.http.get("/data/hold")) for _ in range(_PLACES + 20)]
        await stage.asked(_PLACES)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await stage.has_every_place(_PLACES)


@pytest.mark.deadline(180)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["asked to end", "killed"])
async def test_no_request_is_left_unanswered_while_a_handler_restarts(
    tmp_path: Path, report: Report, how: signal.Signals
) -> None:
    """Two processes: one ends in the middle, another takes its place."""
    async with staged(tmp_path) as stage:
        first = await stage.handler()
        await stage.handler()
        await stage.serves()
        numbers = iter(range(_REQUESTS))
        answers: Counter[str] = Counter()
        wrong = 0
        began = time.monotonic()

        async def caller() -> None:
            nonlocal wrong
            for n in numbers:
                answer = await stage.http.get(f"/data/echo?n={n}&pause=0.02")
                name = "200" if answer.status_code == 200 else answer.json()["reason"]
                answers[name] += 1
                wrong += answer.status_code == 200 and answer.json() != n

        async def restart() -> None:
            await eventually(lambda: answers.total() > _REQUESTS // 3, timeout=60)
            first.send_signal(how)
            await first.wait()
            await stage.handler()

        await asyncio.gather(restart(), *(caller() for _ in range(_AT_ONCE)))
        seconds = time.monotonic() - began
        assert answers.total() == _REQUESTS
        assert wrong == 0
        if how == signal.SIGTERM:
            assert answers == {"200": _REQUESTS}
        else:  # what was with it at that moment, and nothing else
            assert set(answers) <= {"200", "HANDLER_LOST"}
            assert answers["HANDLER_LOST"] <= _PLACES
        await stage.has_every_place(2 * _PLACES)
        told = ", ".join(f"{count} {name}" for name, count in answers.most_common())
        report(
            f"{_REQUESTS} requests, {_AT_ONCE} at once, {2 * _PLACES} places, a process {how.name}:"
            f" {told}; 0 unanswered, 0 places lost, {seconds:.1f} s"
        )

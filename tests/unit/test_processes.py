from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from capsule_sidecar.commands import processes
from capsule_sidecar.commands.processes import Child, Ready
from tests.support.eventually import eventually


async def child(code: str, lines: list[str]) -> Child:
    return await Child.start("child", [sys.executable, "-c", code], lines.append)


async def test_both_kinds_of_output_are_read_to_the_end() -> None:
    lines: list[str] = []
    code = "import sys; print('out'); sys.stderr.write('err, no line feed'); sys.exit(3)"
    assert await (await child(code, lines)).wait() == 3
    assert sorted(lines) == ["err, no line feed", "out"]


async def test_a_line_without_end_is_passed_on_in_pieces() -> None:
    lines: list[str] = []
    size = 3 * processes.MAX_LINE
    assert await (await child(f"print('x' * {size})", lines)).wait() == 0
    assert "".join(lines) == "x" * size
    assert len(lines) > 1


async def test_it_is_ended_with_sigterm() -> None:
    lines: list[str] = []
    code = "import time; print('up', flush=True); time.sleep(60)"
    running = await child(code, lines)
    await eventually(lambda: lines)
    assert await running.stop() == -signal.SIGTERM


async def test_what_ignores_sigterm_is_killed_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "STOP_GRACE", 0.2)
    lines: list[str] = []
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    running = await child(code, lines)
    inner = int((await eventually(lambda: lines))[0])
    assert await running.stop() == -signal.SIGKILL

    def gone() -> bool:
        try:
            return Path(f"/proc/{inner}/stat").read_text(encoding="ascii").split()[2] == "Z"
        except FileNotFoundError:
            return True

    await eventually(gone)


async def test_it_has_a_process_group_of_its_own() -> None:
    lines: list[str] = []
    running = await child("import os; print(os.getpgrp())", lines)
    await running.wait()
    assert lines == [str(running.pid)]
    assert running.pid != os.getpgrp()


async def test_the_first_of_several_ends_the_wait_and_a_future_stays() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await processes.first_of(future, asyncio.sleep(0))
    await processes.first_of(future, timeout=0.01)
    assert not future.done()


def test_the_addresses_are_read_from_the_ready_line_alone() -> None:
    read = processes.ready_addresses
    assert read("ready grpc=127.0.0.1:7400") == Ready("127.0.0.1:7400", "")
    both = Ready("[::1]:1", "http://[::1]:2")
    assert read("ready grpc=[::1]:1 http=http://[::1]:2") == both
    assert read("ready http=http://[::1]:2 and more grpc=[::1]:1") == both
    assert read("not ready grpc=127.0.0.1:7400") is None
    assert read("ready http=http://127.0.0.1:7480") is None
    assert read("") is None


def test_a_command_is_quoted_as_one_types_it() -> None:
    assert processes.quoted(["a b", "c"], {"X": "d e"}) == "X='d e' 'a b' c"
    assert processes.ending(3) == "ended with exit code 3"
    assert processes.ending(-9) == "was ended by SIGKILL"

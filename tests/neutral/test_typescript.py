"""The protocol is neutral: a handler in TypeScript on bare generated stubs answers a person."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from capsule_protocol.v1 import types_pb2
from tests.support.eventually import eventually
from tests.support.programs import ROOT, Program, running
from tests.support.sidecar import FAST, Follow, Person, Running, running_sidecar

# Attempts are counted: none is lost because its process stands still for a moment.
PATIENT = FAST | {"lease_term": 5.0, "fresh_beat": 4.0}
FOLDER = Path(__file__).parent / "typescript"
SOURCES = ["handler.ts", "package-lock.json", "tsconfig.json"]
BUILD = FOLDER / "build"
TOOLBOX = [sys.executable, str(ROOT / "scripts" / "toolbox.py")]
NODE = [*TOOLBOX, "--node"]
STUBS = [sys.executable, str(ROOT / "scripts" / "gen_protos.py"), "--stubs", "ts"]
# google.rpc's types too; 64-bit integers as plain numbers, which hold every offset there will be
OPTIONS = "generate_dependencies,long_type_number"


@pytest.fixture(scope="module")
def program() -> Path:
    """Generates the stubs and compiles the handler, where anything of theirs has changed."""
    inputs = [*sorted((ROOT / "proto").rglob("*.proto")), *(FOLDER / name for name in SOURCES)]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()
    made, stamp = BUILD / "js" / "handler.js", BUILD / ".digest"
    BUILD.mkdir(exist_ok=True)
    with (BUILD / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _run([*TOOLBOX, "--npm", str(FOLDER)])
        if not stamp.exists() or stamp.read_text() != digest:
            _run([*NODE, *STUBS, "--out", str(BUILD), "--options", OPTIONS])
            _run([*NODE, "tsc", "--project", str(FOLDER)])
            stamp.write_text(digest)
    return made


def _run(command: list[str]) -> None:
    plugins = FOLDER / "node_modules" / ".bin"
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": f"{plugins}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def node(program: Path, sidecar: Running) -> AbstractAsyncContextManager[Program]:
    """Runs the handler; it attaches by itself."""
    env = {
        "CAPSULE_ADDRESS": sidecar.address,
        "CAPSULE_TOKEN": sidecar.token,
        "CAPSULE_APP": "support",
    }
    return running([*NODE, "node", str(program)], env)


@asynccontextmanager
async def conversation(home: Path) -> AsyncIterator[tuple[Running, Person, str, Follow]]:
    """A sidecar, someone in an open session, and their view of it."""
    async with running_sidecar(home, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        session = await ada.open()
        async with await ada.follow(session) as follow:
            yield sidecar, ada, session, follow


def deltas(follow: Follow) -> list[str]:
    """Returns the pieces of text that were seen while they were written."""
    return [
        f.transient.text_delta.text for f in follow.frames if f.transient.HasField("text_delta")
    ]


async def turn_ends(follow: Follow, invocation_id: str) -> tuple[int, int]:
    """Waits for the end of a turn; returns its status and how many attempts it took."""

    def found() -> tuple[int, int] | None:
        for event in follow.events:
            if event.invocation_id == invocation_id and event.HasField("invocation_ended"):
                return event.invocation_ended.status, event.invocation_ended.attempts
        return None

    end = await eventually(found, timeout=30.0, message="the turn ends")
    assert end is not None
    return end


async def whole(ada: Person, session: str) -> list[str]:
    """Returns the texts of the timeline, each of which is to be complete."""
    items = await ada.timeline(session)
    assert all(i.HasField("message") and not i.message.interrupted for i in items), items
    return [i.message.text for i in items]


COMPLETED = types_pb2.INVOCATION_STATUS_COMPLETED
FAILED = types_pb2.INVOCATION_STATUS_FAILED


async def test_an_echo_answers(program: Path, tmp_path: Path) -> None:
    async with conversation(tmp_path) as (sidecar, ada, session, follow), node(program, sidecar):
        sent = await ada.say(session, "echo hi")
        assert await turn_ends(follow, sent.invocation_id) == (COMPLETED, 1)
        assert await whole(ada, session) == ["echo hi", "hi"]


@pytest.mark.parametrize("way", ["stream", "append"])
async def test_a_streamed_answer_is_seen_while_it_is_written_and_is_kept(
    program: Path, tmp_path: Path, way: str
) -> None:
    # Two seconds of words: what comes within one turn of the sidecar's loop is seen as one piece.
    text = " ".join(f"word{n}" for n in range(200)) + " 🐙 ende"
    async with conversation(tmp_path) as (sidecar, ada, session, follow), node(program, sidecar):
        sent = await ada.say(session, f"{way} {text}")
        assert await turn_ends(follow, sent.invocation_id) == (COMPLETED, 1)
        assert await whole(ada, session) == [f"{way} {text}", text]
        assert len(deltas(follow)) > 1
        assert text.startswith("".join(deltas(follow)))


async def test_a_handler_that_fails_fails_its_turn_alone(program: Path, tmp_path: Path) -> None:
    async with conversation(tmp_path) as (sidecar, ada, session, follow), node(program, sidecar):
        sent = await ada.say(session, "dance")
        assert await turn_ends(follow, sent.invocation_id) == (FAILED, 1)
        sent = await ada.say(session, "echo still here")
        assert await turn_ends(follow, sent.invocation_id) == (COMPLETED, 1)


async def test_a_process_killed_in_mid_answer_is_followed_by_one_that_doubles_nothing(
    program: Path, tmp_path: Path
) -> None:
    text = " ".join(f"word{n}" for n in range(300))
    async with conversation(tmp_path) as (sidecar, ada, session, follow):
        async with node(program, sidecar) as first:
            sent = await ada.say(session, f"both {text}")
            await eventually(lambda: deltas(follow), timeout=30.0, message="the answer begins")
            await first.kill()
        async with node(program, sidecar):
            assert await turn_ends(follow, sent.invocation_id) == (COMPLETED, 2)
        # The first answer is the one of the first attempt, the second is whole.
        assert await whole(ada, session) == [f"both {text}", text, text]
        kinds = [k for k in follow.kinds() if k in ("stream_opened", "stream_withdrawn")]
        assert kinds == ["stream_opened", "stream_withdrawn", "stream_opened"]


async def test_a_message_waits_for_the_first_process(program: Path, tmp_path: Path) -> None:
    async with conversation(tmp_path) as (sidecar, ada, session, follow):
        sent = await ada.say(session, "echo patience")
        async with node(program, sidecar):
            assert await turn_ends(follow, sent.invocation_id) == (COMPLETED, 1)


async def test_a_process_that_loses_its_sidecar_ends(program: Path, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with conversation(tmp_path) as (sidecar, ada, session, follow):
            process = await stack.enter_async_context(node(program, sidecar))
            sent = await ada.say(session, "echo hi")
            await turn_ends(follow, sent.invocation_id)
        assert await process.ends() == 1
        await process.shows("the sidecar has ended the line")

"""A handler process under test: does what each message asks, notes what was acknowledged to it.

Run as `python -m tests.faults.app`. The notes go to the file FAULTS_NOTES, a line of JSON each,
written at once: what is in it survives a kill. FAULTS_PACE is the seconds between two pieces of a
stream; `hold:NAME` and `stream:NAME` wait for a file of that name in FAULTS_GATES.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import capsule_client as capsule
from tests.faults import script

_PACE = float(os.environ.get("FAULTS_PACE", "0.01"))
_GATES = Path(os.environ.get("FAULTS_GATES", "."))
_NOTES = os.open(os.environ["FAULTS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

app = capsule.App("support", drain_timeout=5.0)


class Asked(Exception):
    """The error that a script asks for."""


def _note(what: str, session: capsule.Session, text: str) -> None:
    line = {"what": what, "session": session.id, "attempt": session.attempt, "text": text}
    os.write(
        _NOTES, json.dumps(line | {"pid": os.getpid(), "time": time.monotonic()}).encode() + b"\n"
    )


@app.message()
async def answer(session: capsule.Session, msg: capsule.Message) -> None:
    """Does what the message asks."""
    name, wishes = script.parse(msg.text)
    _note("begun", session, name)
    try:
        for step, wish in enumerate(wishes):
            await _do(session, name, step, wish)
    except asyncio.CancelledError:
        _note("cancelled", session, name)
        raise
    _note("returned", session, name)


async def _do(session: capsule.Session, name: str, step: int, wish: str) -> None:
    match wish.partition(":"):
        case ("reply", _, _):
            text = script.reply_text(name, step)
            await session.reply(text)
            _note("message", session, text)
        case ("tagged", _, _):
            text = script.tagged_text(name, step, session.attempt)
            await session.reply(text)
            _note("message", session, text)
        case ("stream", _, gate):
            async with session.stream_reply() as out:
                for number, piece in enumerate(script.pieces(name, step)):
                    if gate and number == 1:
                        await _hold(session, gate)
                    await out.write(piece)
                    await asyncio.sleep(_PACE)
            _note("stream", session, out.text)
        case ("block", _, _):
            text = script.block_text(name, step)
            await session.show(capsule.Block("note", {"text": text}))
            _note("block", session, text)
        case ("ask" | "choose" as kind, _, seconds):
            told = await _ask(session, kind, script.question(name, step), float(seconds or 300))
            _note("told", session, f"{script.question(name, step)} {told}")
            text = script.told_text(name, step, told)
            await session.reply(text)
            _note("message", session, text)
        case ("notify", _, _):
            await session.notify(f"{name} is at {step}")
        case ("count", _, _):
            count = session.data["count"] = session.data.get("count", 0) + 1
            text = script.count_text(name, count)
            await session.reply(text)
            _note("message", session, text)
        case ("pause", _, _):
            await asyncio.sleep(5 * _PACE)
        case ("hold", _, gate):
            await _hold(session, gate)
        case ("raise", _, _):
            raise Asked(name)


async def _ask(session: capsule.Session, kind: str, question: str, timeout: float) -> str:
    try:
        if kind == "choose":
            return await session.prompt_choice(question, script.OPTIONS, timeout=timeout)
        agreed = await session.prompt_approval(question, timeout=timeout)
        return "yes" if agreed else "no"
    except (capsule.ApprovalTimeout, capsule.ChoiceTimeout):
        return "nothing"


async def _hold(session: capsule.Session, gate: str) -> None:
    _note("held", session, gate)
    while not (_GATES / gate).exists():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    app.run()

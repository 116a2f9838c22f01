"""The demo's commands that keep documents and count: a person's own, in all of their sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import capsule_client as capsule

Command = Callable[[capsule.Session, capsule.Message, str], Awaitable[None]]

HELP = """\
- `note TEXT` keeps a note of yours, `notes [WORD]` lists them (those with WORD in their text), \
`forget [WORD]` removes them
- `count-me` counts you, in all of your sessions"""

_SHOWN = 20


async def note(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Keeps a note: once, also where the turn is delivered again, as the message is its id."""
    made = {"text": rest or "(nothing)"}
    await session.db.notes.update_one({"id": msg.id}, made, upsert=True)
    await session.reply(f"Noted. You have {await session.db.notes.count()}.")


async def notes(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Lists the newest notes, the newest first."""
    found = session.db.notes.find(_with(rest), sort="-create_time", limit=_SHOWN)
    lines = [f"- {each['text']}" async for each in found]
    await session.reply("\n".join(lines) or "There are none. Type note and something to keep.")


async def forget(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Removes notes."""
    gone = await session.db.notes.delete_many(_with(rest))
    await session.reply(f"Forgotten: {gone}.")


async def count_me(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Counts, atomically; a turn that is delivered again counts again."""
    times = await session.increment("times", scope="user")
    await session.reply(f"You said that {times} times, in all of your sessions.")


def _with(word: str) -> dict[str, object]:
    return {"text": {"$contains": word}} if word else {}


COMMANDS: dict[str, Command] = {
    "note": note,
    "notes": notes,
    "forget": forget,
    "count-me": count_me,
}


def declare(app: capsule.App) -> None:
    """Has an app keep them."""
    app.collection("notes", scope="user", indexes=["create_time"])

"""An app with tasks that do as messages tell them: what a terminal chat is tested with."""

from __future__ import annotations

import asyncio

import capsule_client as capsule

app = capsule.App("demo")
# A part of the way, and what is said of it; None: the task ends.
told: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue(9)


@app.enter()
async def enter(session: capsule.Session) -> None:
    """Greets."""
    await session.reply("Hello!")


@app.task()
async def sync(session: capsule.Session) -> dict[str, int]:
    """Says how far it is, as it is told."""
    task = capsule.current_task()
    assert task is not None
    while (said := await told.get()) is not None:
        await task.progress(*said)
    return {"synced": 312}


@app.task(name="send_report")
async def send_report(session: capsule.Session) -> None:
    """Fails, once it is told to."""
    await told.get()
    raise RuntimeError("the password is swordfish")


@app.message()
async def message(session: capsule.Session, msg: capsule.Message) -> None:
    """Does what the first word says."""
    word, _, rest = msg.text.partition(" ")
    match word:
        case "sync":
            await session.show_task(await sync.submit(session=session), message="Mailbox sync")
        case "fail":
            await session.show_task(await send_report.submit(session=session))
        case "later":
            await session.show_task(await sync.schedule(delay="10m", session=session))
        case "reach":
            part, _, said = rest.partition(" ")
            await told.put((float(part), said))
        case "finish":
            await told.put(None)
        case "cancel":
            await sync.cancel(session=session)
    await session.reply(f"{word}: done")

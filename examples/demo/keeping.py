"""The demo's commands that show what is kept, call by call: values, documents, a task's result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import capsule_client as capsule

Command = Callable[[capsule.Session, capsule.Message, str], Awaitable[None]]

HELP = """\
- `value [KEY=WORD]` keeps a word for this session, `value KEY` tells it, `value KEY=` forgets it
- `shelf` puts three books on a shelf of this session, changes, finds and removes them
- `add A B` has a task add them, and waits for its result; `sum` looks the last one up again"""

BOOKS = [
    {"title": "Emma", "year": 1815, "tags": ["novel"]},
    {"title": "Walden", "year": 1854, "tags": []},
]


async def value(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Keeps, tells or forgets a word."""
    key, given, word = rest.partition("=")
    key = key.strip() or "word"
    if word:
        await session.set(key, word)
    elif given:
        await session.delete(key)
    await session.reply(f"{key}: {await session.get(key, 'nothing')}")


async def shelf(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows every call of a collection once, from an empty shelf to an empty shelf."""
    books = session.db.shelf
    await books.delete_many({})  # where this turn was delivered before
    await books.insert_one({"title": "Middlemarch", "year": 1871, "tags": ["novel"]})
    await books.insert_many(BOOKS)
    await books.update_one({"title": "Walden"}, {"$push": {"tags": "essay"}})
    changed = await books.update_many({"tags": "novel"}, {"$set": {"kind": "fiction"}})
    oldest = await books.find_one(sort="year")
    later = [each["title"] async for each in books.find({"year": {"$gt": 1820}}, sort="year")]
    kinds = await books.distinct("tags")
    gone = await books.delete_one({"title": "Emma"})
    left = await books.count()
    await books.delete_many({})
    session.data["shelves"] = session.data.get("shelves", 0) + 1
    await session.data.flush()  # kept from here on, whatever becomes of this turn
    await session.reply(
        f"{changed.matched} novels; the oldest is {oldest['title'] if oldest else '?'};"
        f" later ones: {', '.join(later)}; tags: {', '.join(sorted(kinds))};"
        f" {gone} removed, {left} left. Shelves so far: {session.data['shelves']}."
    )


def declare(app: capsule.App) -> dict[str, Command]:
    """Has an app do them; returns the commands."""
    app.collection("shelf", scope="session")

    @app.task()
    async def total(session: capsule.Session, numbers: list[int]) -> int:
        """Adds numbers of any size."""
        return sum(numbers)

    async def add(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Waits for what a task returns; the sidecar keeps it."""
        numbers = [int(word) for word in rest.split() if word.lstrip("-").isdecimal()]
        task = await total.submit(session=session, numbers=numbers)
        session.data["sum"] = task.id
        result = await task.result(timeout="1m")
        await session.reply(f"{' + '.join(map(str, numbers)) or 'Nothing'} is {result}.")

    async def look_up(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
        """Finds a task by its id, which is all that is needed of it."""
        if "sum" not in session.data:
            await session.reply("There is none yet. Type add 2 40.")
            return
        task = total.handle(session.data["sum"])
        info = await task.info()
        given = info.args["numbers"] if info.args else []
        await session.reply(f"The sum of {given}: {await task.status()}, {info.result}.")

    return {"value": value, "shelf": shelf, "add": add, "sum": look_up}

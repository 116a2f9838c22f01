"""A demo app that needs no model and no key: each call of a session behind a word to type.

Run it beside a sidecar with `capsule-client run examples/demo/app.py:app`, and talk to it on the
sidecar's chat page, http://127.0.0.1:7480/apps/demo, or with `capsule-sidecar chat demo`.
`count 200` is slow enough to press Stop, or to kill and restart either process in the middle of it:
its words are numbered, so what is lost or doubled shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace

import asking
import chores
import figures
import keeping
import notes

import capsule_client as capsule

log = logging.getLogger("demo")
app = capsule.App("demo")
figures.declare(app)
notes.declare(app)

HELP = f"""\
- `echo TEXT` answers with TEXT
- `reply` two messages of their own
- `notify` a status line, replaced twice, then an answer
- `count N [MS]` streams N numbered words, one every MS milliseconds (50): press Stop, or kill -9
- `write TEXT` streams TEXT letter by letter
- `markdown` streams an answer as a model would write it: headings, a table, code
- `model` streams the chunks of a model's SDK (made up: no model is called)
- `history` what a model would be sent: chat_messages
- `remember TEXT` keeps TEXT in the session's data
- `recall` says what was kept
- `card` a block with a button; in the terminal: /action more, or /action more {{"by": 5}}
{asking.HELP}
{notes.HELP}
{keeping.HELP}
{chores.HELP}
{figures.HELP}
- `title TEXT` sets the session's title
- `slow [SECONDS]` works for a while (30) and says so: press Stop
- `fail` raises an error
- `who` session, user, channel, attempt"""

MARKDOWN = """\
### How a message travels

A session is a **log**. What you write is appended to it, and *then* you are told so:

| step | where | on disk |
|:--|:--|:-:|
| your message | sidecar | yes |
| the turn it causes | sidecar | yes |
| the answer, as it streams | handler, then sidecar | every 250 ms |

1. The handler is given the turn, with a lease.
2. It writes:

```python
@app.message()
async def handle(session, msg):
    async with session.stream_reply() as out:
        for word in think_about(msg.text):
            await out.write(word)  # seen at once, kept soon
```

> Kill either process while this is being written: nothing is lost, nothing is said twice.

- [x] streamed
- [x] durable
- [ ] magic
"""

Command = Callable[[capsule.Session, capsule.Message, str], Awaitable[None]]
COMMANDS: dict[str, Command] = (
    asking.COMMANDS | notes.COMMANDS | keeping.declare(app) | chores.declare(app)
)


def command(function: Command) -> Command:
    """Makes a function answer to its name."""
    COMMANDS[function.__name__] = function
    return function


@app.boot()
async def boot() -> None:
    """Runs once, before any work."""
    log.info("ready to answer")


@app.shutdown()
async def shutdown() -> None:
    """Runs on the way out."""
    log.info("goodbye")


@app.enter()
async def enter(session: capsule.Session) -> None:
    """Greets whoever opens a session."""
    await session.reply("Hello! Type help to see what I can do.")


@app.exit()
async def leave(session: capsule.Session) -> None:
    """Says goodbye when the session is closed."""
    await session.reply("Goodbye!")


@app.message()
async def message(session: capsule.Session, msg: capsule.Message) -> None:
    """Finds the command that a message begins with."""
    if session.attempt > 1:  # the process before this one ended in the middle of it
        await session.notify(f"Attempt {session.attempt}: beginning again")
    text = msg.text or "files"  # nothing but attachments
    word, rest = (*text.split(maxsplit=1), "", "")[:2]
    answer = COMMANDS.get(word.lower())
    if answer is None:
        await session.reply(f"I do not know {word!r}. Type help to see what I do know.")
    else:
        await answer(session, msg, rest.strip())


@command
async def help(session: capsule.Session, msg: capsule.Message, rest: str) -> None:  # noqa: A001 - the word to type
    """Lists the commands."""
    await session.reply(HELP)


@command
async def echo(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Answers with what it was sent."""
    await session.reply(rest or "(nothing)")


@command
async def reply(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Sends two messages; each is durable when its call returns."""
    await session.reply("This is one message.")
    await session.reply("And this is another.")


@command
async def notify(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows status lines: each takes the place of the last."""
    for part, detail in [("Thinking", ""), ("Still thinking", "it is hard"), ("Nearly there", "")]:
        await session.notify(part, detail)
        await asyncio.sleep(1)
    await session.reply("Done. The status line is gone and was never kept.")


@command
async def count(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Streams numbered words from an iterator."""
    numbers = [int(word) for word in rest.split() if word.isdecimal()]
    words, pause = [*numbers, *[200, 50][len(numbers) :]][:2]

    async def chunks() -> AsyncIterator[str]:
        for number in range(1, words + 1):
            yield f"{number} "
            await asyncio.sleep(pause / 1000)
        yield "done"

    await session.stream(chunks())


@command
async def write(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Streams by hand: awaited, `write` waits while the reader is behind."""
    async with session.stream_reply() as out:
        for letter in rest or "write what?":
            await out.write(letter)
            await asyncio.sleep(0.03)


@command
async def markdown(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Streams an answer as a model would write it, a few characters at a time."""
    async with session.stream_reply() as out:
        for start in range(0, len(MARKDOWN), 6):
            await out.write(MARKDOWN[start : start + 6])
            await asyncio.sleep(0.02)


@command
async def model(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Pipes the chunks of a model's SDK, here made up in the form of chat completions."""

    def completion() -> Iterator[SimpleNamespace]:
        for word in ("This ", "is ", "what ", "a ", "model ", "might ", "have ", "said", "."):
            delta = SimpleNamespace(content=word)
            yield SimpleNamespace(choices=[SimpleNamespace(index=0, delta=delta)])
        yield SimpleNamespace(choices=[])  # the last chunk carries the usage alone

    session.data["last_answer"] = await session.stream_reply_from(completion())


@command
async def history(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows what a chat model would be sent."""
    lines = [f"{item['role']}: {item['content']}" for item in session.chat_messages(msg)]
    await session.reply("\n".join(lines))


@command
async def remember(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Keeps a text with the session; it is committed with the end of the turn."""
    session.data.setdefault("kept", []).append(rest)
    await session.reply(f"I shall remember: {rest}")


@command
async def recall(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Says what was kept."""
    kept = session.data.get("kept", [])
    await session.reply("You told me: " + "; ".join(kept) if kept else "You told me nothing yet.")


@command
async def card(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows a block with a button."""
    session.data["count"] = 0
    await session.show(counter(0))


def counter(value: int) -> capsule.Block:
    """A block: shown again with the same id, it changes in place."""
    button = {"label": "More", "action": "more"}
    return capsule.Block("counter", {"value": value, "buttons": [button]}, id="counter")


@app.action("more")
async def more(session: capsule.Session, action: capsule.Action) -> None:
    """Answers a click on the block's button."""
    by = action.payload.get("by", 1) if isinstance(action.payload, dict) else 1
    session.data["count"] = session.data.get("count", 0) + by
    await session.show(counter(session.data["count"]))


@command
async def title(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Sets the session's title."""
    await session.set_title(rest or "A demo")
    await session.reply("The title is set.")


@command
async def slow(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Works for a while; a Stop cancels it, and what it writes then is still taken."""
    seconds = int(rest) if rest.isdecimal() else 30
    try:
        for left in range(seconds, 0, -1):
            await progress(f"{left} seconds left")
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        await session.reply("I was stopped, and have put everything away.")
        raise
    await session.reply("That took a while.")


async def progress(text: str) -> None:
    """Shows a status line from anywhere below a handler: the session is found by itself."""
    session = capsule.current_session()
    if session is not None:
        await session.notify("Working", text)


@command
async def fail(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Raises: the person sees a reference id, the traceback stays in this process's log."""
    raise RuntimeError("the demo was asked to fail")


@command
async def who(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Says what is known of the conversation."""
    user = session.user.id if session.user else "nobody"
    await session.reply(
        f"session {session.id}, user {user}, channel {session.channel.type},"
        f" attempt {session.attempt}, {len(session.history)} messages before this one"
    )


if __name__ == "__main__":
    app.run()

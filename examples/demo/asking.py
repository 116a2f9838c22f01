"""The demo's commands that ask, and those that show files and pictures."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable

import capsule_client as capsule

Command = Callable[[capsule.Session, capsule.Message, str], Awaitable[None]]
COMMANDS: dict[str, Command] = {}

HELP = """\
- `file [ACCEPT]` asks for a file, as `file .pdf,image/*`: kill -9 all three processes, and answer
- `approve [TEXT]` asks for yes or no
- `choose [A, B, C]` asks for one of several
- `survey` asks all three at once, and one that waits for ten seconds only
- `files` reads what your message carries: attach something
- `image` a picture made here; with an attached one, that one
- `steps` steps that change in place while they are done
- `suggest` suggestions to click on"""


def command(function: Command) -> Command:
    """Makes a function answer to its name."""
    COMMANDS[function.__name__] = function
    return function


@command
async def file(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Asks for a file: the question outlives this process, the sidecar and the page."""
    try:
        upload = await session.prompt_file(
            message="Which file shall I look at?", accept=rest, timeout=3600
        )
    except capsule.FileUploadTimeout:
        await session.reply("Then not.")
        return
    content = await upload.read()
    lines = content.count(b"\n")
    await session.reply(
        f"**{upload.name}** is {upload.content_type}, {upload.size} bytes, {lines} line breaks."
        f" It is at [{upload.name}]({upload.url}) for seven days."
    )


@command
async def approve(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Asks for yes or no."""
    question = rest or "May I delete the *whole* archive?"
    try:
        yes = await session.prompt_approval(
            question, approve_label="Go ahead", reject_label="Rather not", timeout=600
        )
    except capsule.ApprovalTimeout:
        await session.reply("I shall take that as a no.")
        return
    await session.reply("Done." if yes else "I have left it as it was.")


@command
async def choose(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Asks for one of several."""
    options = [option.strip() for option in rest.split(",") if option.strip()]
    try:
        picked = await session.prompt_choice(
            "Which one?", options or ["Red", "Green", "Blue"], timeout=600
        )
    except capsule.ChoiceTimeout:
        await session.reply("None of them, then.")
        return
    await session.reply(f"{picked} it is.")


@command
async def survey(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Asks several questions at once; what is not answered in time does not hold up the others."""

    async def ask(name: str, question: Awaitable[object]) -> str:
        try:
            return f"- {name}: {await question}"
        except TimeoutError:
            return f"- {name}: no answer"

    answers = await asyncio.gather(
        ask("approval", session.prompt_approval("Do you like surveys?")),
        ask("choice", session.prompt_choice("How often?", ["Never", "Now and then", "Always"])),
        ask("quick", session.prompt_approval("Quick: within ten seconds?", timeout=10)),
    )
    await session.reply("\n".join(answers))


@command
async def files(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Reads what the message carries."""
    if not msg.attachments:
        await session.reply("Your message carries no file: attach one, and write `files`.")
        return
    lines = []
    for attachment in msg.attachments:
        content = await attachment.read()
        lines.append(
            f"- **{attachment.name}**: {attachment.content_type}, {attachment.size} bytes,"
            f" CRC-32 {zlib.crc32(content):08x}"
        )
    await session.reply("\n".join(lines))


@command
async def image(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows a picture: of bytes, or one that the message carries."""
    for attachment in msg.attachments:
        if attachment.content_type.startswith("image/"):
            await session.show_image(attachment, alt=f"{attachment.name}, as you sent it")
            return
    await session.show_image(_picture(240, 120), alt="A field of colours", width=480)


def _picture(width: int, height: int) -> bytes:
    """Returns a PNG: its bytes are written out, so that the demo needs no library."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (x * 255 // width, y * 255 // height, 160))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@command
async def steps(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows steps: each changes in place, by its label."""
    labels = ["Read the question", "Look things up", "Write it down"]
    for label in labels:
        await session.show_step(label, "pending")
    for number, label in enumerate(labels, start=1):
        await session.show_step(label, "running")
        await asyncio.sleep(0.7)
        await session.show_step(label, "completed", detail=f"step {number} of {len(labels)}")
    await session.reply("All three are done.")


@command
async def suggest(session: capsule.Session, msg: capsule.Message, rest: str) -> None:
    """Shows suggestions: a click sends one as if it had been typed."""
    await session.reply("What would you like to see?")
    await session.show_suggestions(
        ["markdown", "survey", {"label": "Count to a hundred", "text": "count 100 30"}]
    )

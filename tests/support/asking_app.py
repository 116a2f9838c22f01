"""An app that asks, takes files and shows blocks: what a terminal chat is tested with."""

from __future__ import annotations

import asyncio

import capsule_client as capsule

app = capsule.App("demo")

PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
    b"\x1f\x15\xc4\x89\x00\x00\x00\rIDATx\xdac\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d"
    b"\x00\x00\x00\x00IEND\xaeB`\x82"
)


@app.enter()
async def enter(session: capsule.Session) -> None:
    """Greets."""
    await session.reply("Hello!")


@app.message()
async def message(session: capsule.Session, msg: capsule.Message) -> None:
    """Does what the first word says, and says what came of it."""
    word, _, rest = msg.text.partition(" ")
    try:
        match word:
            case "approve":
                await session.notify("Thinking")
                said = await session.prompt_approval(
                    rest or "Really?", approve_label="Do it", reject_label="Leave it"
                )
                await session.reply(f"It was {said}.")
            case "swapped":
                said = await session.prompt_approval(
                    "Keep it?", approve_label="No", reject_label="Yes"
                )
                await session.reply(f"It was {said}.")
            case "twice":
                one = asyncio.create_task(session.prompt_approval("First?"))
                two = asyncio.create_task(session.prompt_choice("Second?", ["red", "blue"]))
                await session.reply(f"They were {await one} and {await two}.")
            case "pair":
                one = asyncio.create_task(session.prompt_approval("First?"))
                other = asyncio.create_task(session.prompt_approval("Second?"))
                await session.reply(f"They were {await one} and {await other}.")
            case "choose":
                picked = await session.prompt_choice("Which?", rest.split("|"))
                await session.reply(f"It is {picked}.")
            case "file":
                upload = await session.prompt_file(message="A text, please", accept=".txt")
                text = (await upload.read()).decode()
                await session.reply(f"{upload.name} says {text!r}.")
            case "short":
                await session.prompt_approval("Quick?", timeout=0.5)
            case "many":
                for number in range(60):
                    await session.reply(f"line {number}")
            case "later":
                question = asyncio.create_task(session.prompt_approval("Still there?"))
                await asyncio.sleep(0.5)
                for number in range(60):
                    await session.reply(f"line {number}")
                await session.reply(f"It was {await question}.")
            case "steps":
                for status in ("running", "completed"):
                    await session.show_step("Look it up", status)
                await session.show_step("Leave it", "running", detail="half-way")
                await session.reply("Done.")
            case "suggest":
                await session.show_suggestions(["echo one", {"label": "Two", "text": "echo two"}])
            case "image":
                await session.show_image(PIXEL, alt="A \x1b[31mdot")
            case "echo":
                await session.reply(rest)
            case _:
                files = [f"{file.name} {len(await file.read())}" for file in msg.attachments]
                await session.reply(f"Got {msg.text!r} with {', '.join(files) or 'nothing'}.")
    except capsule.ApprovalTimeout:
        await session.reply("No answer.")
    except capsule.ChoiceTimeout:
        await session.reply("No choice.")
    except capsule.FileUploadTimeout:
        await session.reply("No file.")

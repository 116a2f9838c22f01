"""What the page for authors of handlers says of errors is what the calls raise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from tests.support.eventually import eventually
from tests.support.sidecar import PATIENT, Person, running_sidecar

Call = Callable[[capsule.Session], Awaitable[Any]]
LONG = "x" * (256 * 1024 + 1)


def block(kind: str, payload: Any) -> Call:
    return lambda session: session.show(capsule.Block(kind, payload))


async def keep(session: capsule.Session) -> None:
    session.data["wrong"] = {1, 2}
    try:
        await session.data.flush()
    finally:
        del session.data["wrong"]


async def word_plus_one(session: capsule.Session) -> None:
    await session.set("word", "x")
    await session.increment("word")


NOTES: dict[str, capsule.Collection] = {}  # the app's own, which is no session's

CALLS: list[tuple[Call, type[Exception]]] = [
    (lambda session: session.reply(""), capsule.InvalidArgument),
    (lambda session: session.reply(LONG), capsule.LimitExceeded),
    (lambda session: session.reply(7), TypeError),  # type: ignore[arg-type]  # what is tested
    (lambda session: session.set_title("x" * 201), capsule.InvalidArgument),
    (lambda session: session.stream([7]), TypeError),  # type: ignore[list-item]  # what is tested
    (lambda session: session.stream_reply_from([object()]), TypeError),
    (block("card", [1]), TypeError),
    (block("card", {"a": {1}}), TypeError),
    (block("CARD!", {}), capsule.InvalidArgument),
    (block("step", {}), capsule.InvalidArgument),
    (block("card", {"a": "x" * 65_536}), capsule.LimitExceeded),
    (lambda session: session.show_step("a", "done"), ValueError),
    (lambda session: session.show_step(" ", "running"), capsule.InvalidArgument),
    (lambda session: session.show_suggestions([]), capsule.InvalidArgument),
    (lambda session: session.show_suggestions("a"), TypeError),
    (lambda session: session.show_image(b"text"), ValueError),
    (lambda session: session.show_image("/nowhere.png"), OSError),
    (lambda session: session.show_image(7), TypeError),  # type: ignore[arg-type]  # what is tested
    (lambda session: session.prompt_approval("Sure?", timeout=0), ValueError),
    (lambda session: session.prompt_approval(""), capsule.InvalidArgument),
    (lambda session: session.prompt_approval("?", approve_label=" "), capsule.InvalidArgument),
    (lambda session: session.prompt_approval("?", reject_label="x" * 81), capsule.InvalidArgument),
    (lambda session: session.prompt_choice("Which?", "ab"), TypeError),
    (lambda session: session.prompt_choice("Which?", ["a", "a"]), ValueError),
    (lambda session: session.prompt_choice("Which?", ["a" * 201]), capsule.InvalidArgument),
    (
        lambda session: session.prompt_choice("Which?", [str(n) for n in range(101)]),
        capsule.InvalidArgument,
    ),
    (lambda session: session.prompt_approval("?", timeout=31 * 86_400), capsule.InvalidArgument),
    (lambda session: session.prompt_file(accept="pdf"), capsule.InvalidArgument),
    (lambda session: session.prompt_approval("Sure?", timeout=0.001), capsule.ApprovalTimeout),
    (lambda session: session.prompt_choice("Which?", ["a"], timeout=0.001), TimeoutError),
    (keep, TypeError),
    (lambda session: session.get("k", scope="all"), ValueError),  # type: ignore[arg-type]  # what is tested
    (lambda session: session.set("k", {1}), TypeError),
    (lambda session: session.set("", 1), capsule.InvalidArgument),
    (lambda session: session.set("k", "x" * 2**20), capsule.LimitExceeded),
    (word_plus_one, capsule.Conflict),
    (lambda session: session.db.drafts.count(), AttributeError),
    (lambda session: session.db["drafts"].count(), KeyError),
    (lambda session: session.db.notes.insert_one({"a": {1}}), TypeError),
    (lambda session: session.db.notes.find(limit=0), ValueError),
    (lambda session: session.db.notes.find({"$nor": []}), capsule.InvalidArgument),
    (lambda session: session.db.notes.insert_many([{}] * 1001), capsule.LimitExceeded),
    (lambda session: session.db.notes.insert_many([{"id": "1"}] * 2), capsule.Conflict),
    (lambda session: NOTES["app"].count(), capsule.NoSession),
]


async def test_every_call_raises_what_the_table_says(tmp_path: Path) -> None:
    raised: list[BaseException | None] = []
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = capsule.App("support", address=sidecar.address, token=sidecar.token)

        NOTES["app"] = app.collection("notes", scope="user")

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            for call, _ in CALLS:
                try:
                    await call(session)
                    raised.append(None)
                except asyncio.CancelledError:
                    raise
                except Exception as error:  # noqa: BLE001 - looked at below
                    raised.append(error)

        async with app.attached():
            await ada.say(await ada.open(), "go")
            await eventually(lambda: len(raised) == len(CALLS), timeout=30)
    for number, ((_, wanted), error) in enumerate(zip(CALLS, raised, strict=True)):
        # A refusal of the sidecar is told from what was seen here: neither is the other's kind.
        if not isinstance(error, wanted) or (
            isinstance(error, capsule.CapsuleError) and wanted in (TypeError, ValueError, OSError)
        ):
            pytest.fail(f"call {number} raised {error!r} and not {wanted.__name__}")

"""Messages that carry files: sent, delivered, read back, each time with a fresh address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx

from tests.support.files import Mover
from tests.support.http import Browser, problem, served
from tests.support.sidecar import Person, refused, running_sidecar
from tests.support.turns import turn_on, work_of


async def test_a_message_with_files_reaches_the_handler_and_comes_back_in_history(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        await desk.finish()
        ada = desk.person
        files = [await Mover(ada).up(b"one", "1.txt"), await Mover(ada).up(b"two", "2.txt")]
        ids = [file.file_id for file in files]
        async with await ada.follow(desk.session) as follow:
            sent = await ada.say(desk.session, "", attachments=ids)
            assert [a.file_id for a in sent.message.attachments] == ids
            live = await follow.sees("message_added", 2)
        work = await work_of(desk.handler, sent.invocation_id)
        assert (await Mover(ada).get(ids[0])).session_id == desk.session
        await desk.handler.finish(work)
        next_turn = await desk.next_turn("and?")
        later = next_turn.work
        listed = await desk.handler.sessions.ListMessages(
            next_turn.request("list_messages"), metadata=desk.handler.metadata
        )
        async with await ada.follow(desk.session) as follow:
            again = await follow.sees("message_added", 2)
        items = await ada.timeline(desk.session)
        shown = [item.message for item in items if item.message.attachments]
        for message in (
            sent.message, live.message_added.message, work.turn.message,
            again.message_added.message,
            *[m for m in later.history if m.attachments],
            *[m for m in listed.messages if m.attachments], *shown,
        ):  # fmt: skip
            assert [a.file_id for a in message.attachments] == ids
            assert [(a.name, a.content_type, a.size) for a in message.attachments] == [
                ("1.txt", "text/plain", 3), ("2.txt", "text/plain", 3),
            ]  # fmt: skip
            async with httpx.AsyncClient(trust_env=False) as client:
                got = [(await client.get(a.url)).content for a in message.attachments]
            assert got == [b"one", b"two"]
        assert len([m for m in later.history if m.attachments]) == 1
        assert len([m for m in listed.messages if m.attachments]) == 1
        assert len(shown) == 1


async def test_what_a_message_may_carry(tmp_path: Path) -> None:
    limits = {"max_attachments": 2}
    async with running_sidecar(tmp_path, limits=limits) as running, Person(running) as ada:
        mine = Mover(ada)
        session, other = await ada.open(), await ada.open()
        ids = [(await mine.up(b"x")).file_id for _ in range(3)]
        invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        with refused(*invalid):
            await ada.say(session, "see", attachments=ids)
        with refused(*invalid):
            await ada.say(session, "see", attachments=[ids[0], ids[0]])
        with refused(*invalid):
            await ada.say(session, " ")
        for gone in ("fil_none", "", "x" * 10_000):
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await ada.say(session, "see", attachments=[ids[0], gone])
        # Nothing of those was taken.
        await ada.say(other, " ", attachments=[ids[0]])
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await ada.say(session, "see", attachments=[ids[0]])
        # The same file again in its own session.
        await ada.say(other, "again", attachments=[ids[0], ids[1]])


async def test_a_page_sends_files_and_reads_them_back(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        file = await me.upload(b"data", "a.png", "image/png")
        async with me.follow(session) as events:
            await events.live()
            sent = await me.say(session, "", attachments=[file["file_id"]])
            seen = await events.sees("message_added")
        found: list[Any] = [
            sent["message"], seen["message_added"]["message"],
            (await me.timeline(session))["items"][0]["message"],
        ]  # fmt: skip
        for message in found:
            (attachment,) = message["attachments"]
            assert attachment["file_id"] == file["file_id"]
            assert (await me.http.get(attachment["url"])).content == b"data"
        problem(await me.post(f"/sessions/{session}/messages", text=""), 400, "INVALID_ARGUMENT")
        twice = [file["file_id"]] * 2
        refused_ = await me.post(f"/sessions/{session}/messages", text="x", attachments=twice)
        problem(refused_, 400, "INVALID_ARGUMENT")
